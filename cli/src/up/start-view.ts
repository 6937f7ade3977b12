import { styleText } from 'node:util';
import { durationText } from '../terminal/format.ts';
import { LiveBlock } from '../terminal/live-block.ts';
import type { MemberPlan } from './plan.ts';
import { HOST } from './plan.ts';
import type { MemberEvent } from './supervisor.ts';

/** Shows the start of a cluster: a list drawn in place on a terminal, else a line per member. */
export class StartView {
  readonly #out: NodeJS.WriteStream;
  readonly #block: LiveBlock;
  readonly #members: readonly MemberPlan[];
  readonly #states = new Map<string, string>();
  readonly #startedMs = performance.now();
  readonly #nameCells: number;
  #isStarting = true;
  #stopped = 0;

  constructor(members: readonly MemberPlan[], out: NodeJS.WriteStream) {
    this.#members = members;
    this.#nameCells = Math.max(12, ...members.map(({ name }) => name.length));
    this.#out = out;
    this.#block = new LiveBlock(out);
  }

  /** Ends the list; later events are single lines. */
  started(): void {
    if (this.#isStarting) this.#block.done();
    this.#isStarting = false;
  }

  readonly onEvent = (event: MemberEvent): void => {
    if (event.type === 'waiting') {
      this.#line('Waiting for members of the last run, which was killed: they end by themselves …');
      return;
    }
    if (event.type === 'died') {
      this.#died(event);
      return;
    }
    if (event.type === 'unpublished') {
      this.#line(`${mark(event.type, this.#out)} ${event.name} runs again, but ${event.why}`);
      return;
    }
    if (event.type === 'stopped') {
      this.#stopped += 1;
      if (this.#stopped === this.#members.length)
        this.#line(`${mark('stopped', this.#out)} all ${this.#stopped} members are stopped`);
      return;
    }
    if (!this.#isStarting) {
      if (event.type !== 'starting')
        this.#line(`${mark(event.type, this.#out)} ${event.name} is ${event.type}`);
      return;
    }
    this.#states.set(event.name, event.type === 'ready' ? durationText(event.atMs - this.#startedMs) : '');
    if (this.#block.isLive) this.#block.draw(this.#members.map((member) => this.#row(member)));
    else if (event.type === 'ready')
      this.#line(this.#row(this.#members.find((member) => member.name === event.name)!));
  };

  #row(member: MemberPlan): string {
    const state = this.#states.get(member.name);
    const isReady = state !== undefined && state !== '';
    return `  ${mark(isReady ? 'ready' : 'starting', this.#out)} ${member.name.padEnd(this.#nameCells)} http://${HOST}:${member.port}  ${isReady ? styleText('dim', `ready after ${state}`, { stream: this.#out }) : state === undefined ? '' : 'starting …'}`;
  }

  #died(event: Extract<MemberEvent, { type: 'died' }>): void {
    const then =
      event.restartInMs === undefined ? '' : `; it is started again in ${durationText(event.restartInMs)}`;
    this.#line(`${mark('died', this.#out)} ${event.name} died: ${event.why}${then}`);
  }

  #line(text: string): void {
    this.#out.write(`${text}\n`);
  }
}

function mark(type: MemberEvent['type'], stream: NodeJS.WriteStream): string {
  if (type === 'ready') return styleText('green', '✓', { stream });
  if (type === 'died' || type === 'unpublished') return styleText('red', '✗', { stream });
  return styleText('dim', type === 'stopped' ? '■' : '·', { stream });
}
