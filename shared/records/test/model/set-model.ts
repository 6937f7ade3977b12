import { behindFloor, NOBODY_MS, standingAbove, type Told, takenAbove } from '../../src/core/floor.ts';
import { type Entry, joinFields, joinWhole } from '../../src/core/join.ts';
import {
  clockOf,
  inTheWay,
  standsLater,
  type ToldClocks,
  taken,
  tryStep,
  writeStep,
} from '../../src/core/set-protocol.ts';
import { counted, isReadQuorum, type Sender } from '../../src/core/standing.ts';
import { senderOf } from './member-steps.ts';
import type { Action } from './model-state.ts';
import { burialActions } from './set-burials.ts';
import { type Merge, setFaults, tombstoneActions } from './set-faults.ts';
import { floorActions } from './set-floors.ts';
import { follow, ringActions } from './set-ring.ts';
import {
  firstSetState,
  NO_SET_RULE_DROPPED,
  type Owner,
  ringOf,
  type SetMessage,
  type SetRules,
  type SetScope,
  type SetState,
  sendSet,
  setsAt,
  type Write,
} from './set-state.ts';

/** Tries of one write. */
const TRIES = 5;

/*
 * One key of a set and its three owners, on the core that ships. As with the register nothing is ever taken away from
 * the network. If the write that began last is acknowledged, and all others of its kind or acknowledged before it began,
 * any two owners that count together must say what it says.
 */
export class SetModel {
  bad = '';
  readonly rules: SetRules;
  readonly scope: SetScope;
  readonly state: SetState;
  readonly #byField: boolean;

  constructor(scope: SetScope, rules: Partial<SetRules> = {}, byField = false) {
    this.scope = scope;
    this.state = firstSetState(scope.rings);
    this.rules = { ...NO_SET_RULE_DROPPED, ...rules };
    this.#byField = byField;
  }

  get answered(): number {
    return this.state.writes.filter(({ isDone }) => isDone).length;
  }

  /** Everything that may happen now. */
  actions(): Action[] {
    const out: Action[] = [['time passes', () => void this.state.now++, 0.3]];
    this.#begins(out);
    for (const message of this.state.net.values()) this.#delivers(out, message);
    for (const [index, write] of this.state.writes.entries())
      if (write.isOpen) this.#counts(out, index, write);
    const merge: Merge = (own, theirs) => this.#taken(own, theirs) ?? own.entry;
    out.push(...setFaults(this.state, this.scope, this.rules, merge));
    if (this.scope.floors !== undefined)
      out.push(...floorActions(this.state, this.scope.floors, this.rules, merge));
    if (this.scope.buries !== undefined)
      out.push(
        ...burialActions(this.state, this.scope.buries, this.rules, {
          join: this.#join,
          byField: this.#byField,
        }),
      );
    out.push(...ringActions(this.state, this.rules, merge));
    if (this.scope.drops === true) out.push(...tombstoneActions(this.state, this.rules));
    return out;
  }

  check(): void {
    const { writes, owners } = this.state;
    const last = writes.at(-1);
    if (this.bad !== '' || !last?.isDone) return;
    const isClear = (one: Write): boolean =>
      one.kind === last.kind || (one.isDone && one.endedAt < last.begunAt);
    if (!writes.every(isClear)) return;
    // A reader may know an older membership than the last one; who follows a later one does not answer it.
    for (let epoch = this.state.epoch; epoch >= 0; epoch--) {
      const sets = setsAt(this.state, epoch);
      const ids = ringOf(this.state, epoch).filter((id) => {
        const owner = owners.get(id)!;
        return owner.standing.settled && owner.epoch <= epoch;
      });
      for (const some of groups(ids, sets.length)) {
        const told = some.map((id) => owners.get(id)!);
        const good = this.#counted(told.map(({ standing }) => ({ sender: senderOf(standing) })));
        if (good.length < some.length || !isReadQuorum(some, { epoch, sets })) continue;
        const entry = standingAbove(
          told.map((one) => ({ entry: one.entry, agreedMs: one.floor.agreedMs })),
          this.#join,
        );
        if ((entry?.value !== undefined) !== (last.kind === 'put'))
          this.bad = `${last.kind}@${last.atMs} was acknowledged, ${some.join(' and ')} now say ${textOf(entry)}`;
      }
    }
  }

  get #join() {
    return this.#byField ? joinFields : joinWhole;
  }

  #begins(out: Action[]): void {
    const { state, scope } = this;
    const due = scope.writes[state.writes.length - state.used.buries];
    if (due === undefined) return;
    for (const kind of due === 'any' ? (['put', 'delete'] as const) : [due])
      for (const skew of scope.skews ?? [0])
        out.push([
          `${kind} begins, its clock ${skew} off`,
          () => {
            const write: Write = {
              kind,
              skew,
              begunAt: state.now++,
              tries: 0,
              atMs: 0,
              epoch: 0,
              endedAt: 0,
              isOpen: true,
              isDone: false,
            };
            state.writes.push(write);
            this.#try(state.writes.length - 1, write);
          },
          0.8,
        ]);
  }

  #try(index: number, write: Write, told?: ToldClocks): void {
    write.tries += 1;
    write.atMs = clockOf(this.state.now + write.skew, told);
    write.epoch = this.state.epoch;
    const value = write.kind === 'put' ? { value: { is: 'live', [`of${index}`]: index } } : {};
    const entry = { atMs: write.atMs, ...value };
    sendSet(this.state, { type: 'put', write: index, entry, epoch: write.epoch });
  }

  #delivers(out: Action[], message: SetMessage): void {
    if (message.type !== 'put' && message.type !== 'offer') return;
    const epoch = message.type === 'put' ? message.epoch : this.state.epoch;
    for (const id of ringOf(this.state, epoch)) {
      const owner = this.state.owners.get(id)!;
      if (!owner.standing.settled || owner.epoch > epoch) continue;
      const agreedMs = message.type === 'offer' ? message.agreedMs : NOBODY_MS;
      const told = { entry: owner.entry, agreedMs: owner.floor.agreedMs };
      let next = this.#taken(told, { entry: message.entry, agreedMs });
      let answer: SetMessage | undefined;
      if (message.type === 'put') {
        const { write, entry } = message;
        const { agreedMs: hiddenMs } = owner.floor;
        const floor = this.rules.promisesNothing ? { promisedMs: 0, agreedMs: hiddenMs } : owner.floor;
        const laterMs = behindFloor(floor, owner.entry, entry, next);
        if (laterMs === undefined) answer = this.#answer(owner, message, next);
        else {
          next = undefined;
          answer = { type: 'behind', write, atMs: entry.atMs, behindMs: laterMs };
        }
      }
      if (next === undefined && (answer === undefined || this.state.net.has(JSON.stringify(answer))))
        continue;
      const what = message.type === 'put' ? `write ${message.write}` : 'a repair';
      out.push([
        `${id}${owner.standing.generation} gets ${what}: ${textOf(message.entry)}`,
        () => {
          if (next !== undefined) owner.entry = next;
          if (message.type === 'put') follow(owner, epoch);
          if (answer !== undefined) sendSet(this.state, answer);
        },
        1,
      ]);
    }
  }

  #answer(
    owner: Owner,
    { write, entry, epoch }: Extract<SetMessage, { type: 'put' }>,
    next: Entry | undefined,
  ): SetMessage {
    const isNews = next !== undefined && this.rules.newsIsEnough;
    const behindMs = isNews ? undefined : inTheWay(entry, next ?? owner.entry, this.#byField);
    const { atMs } = entry;
    if (behindMs !== undefined && !this.rules.trustsClocks) return { type: 'behind', write, atMs, behindMs };
    const aheadMs =
      isNews || this.rules.sameIsEnough ? undefined : standsLater(entry, next ?? owner.entry, this.#byField);
    const ahead = aheadMs === undefined ? {} : { aheadMs };
    return { type: 'ack', write, atMs, epoch, sender: senderOf(owner.standing), ...ahead };
  }

  #counts(out: Action[], index: number, write: Write): void {
    const acks: Extract<SetMessage, { type: 'ack' }>[] = [];
    for (const message of this.state.net.values()) {
      if (message.type !== 'ack' && message.type !== 'behind') continue;
      if (message.write !== index || message.atMs !== write.atMs) continue;
      if (message.type === 'ack') {
        if (message.epoch === write.epoch) acks.push(message);
      } else {
        const { behindMs } = message;
        const step = tryStep({ isAcknowledged: false, behindMs, isMoved: false, left: TRIES - write.tries });
        if (step === 'again')
          out.push([`write ${index} is behind ${behindMs}`, () => this.#try(index, write, { behindMs }), 1]);
      }
    }
    if (write.epoch < this.state.epoch && write.tries < TRIES && write.isBurial === undefined)
      out.push([`write ${index} is tried under a new ring`, () => this.#try(index, write), 0.5]);
    const sets = setsAt(this.state, write.epoch);
    for (const some of groups(acks, sets.length)) {
      const heard = some.map(({ sender }) => ({ sender: this.#asHeard(sender) }));
      if (writeStep(heard, [], sets) !== 'done') continue;
      const aheadMs = Math.max(0, ...some.map((ack) => ack.aheadMs ?? 0)) || undefined;
      const left = TRIES - write.tries;
      const step = tryStep({ isAcknowledged: true, behindMs: undefined, aheadMs, isMoved: false, left });
      if (step === 'again')
        out.push([`write ${index} stands at ${aheadMs}`, () => this.#try(index, write, { aheadMs }), 1]);
      if (step !== 'done') continue;
      out.push([
        `write ${index} is acknowledged by ${some.map(({ sender }) => sender.id + sender.generation).join(' ')}`,
        () => Object.assign(write, { isDone: true, isOpen: false, endedAt: this.state.now++ }),
        2,
      ]);
    }
  }

  #counted<R extends { readonly sender: Sender }>(replies: readonly R[]): R[] {
    return counted(replies.map((reply) => ({ ...reply, sender: this.#asHeard(reply.sender) })));
  }

  #asHeard(sender: Sender): Sender {
    return this.rules.mixesGenerations ? { ...sender, known: {} } : sender;
  }

  #taken(own: Told, theirs: { readonly entry: Entry; readonly agreedMs: number }): Entry | undefined {
    if (this.rules.forgetsFloor) return taken(own.entry, theirs.entry, this.#join);
    return takenAbove(own, theirs, this.#join);
  }
}

/** Pairs, and in a ring change groups of three too. */
function groups<T>(all: readonly T[], sets: number): T[][] {
  const found: T[][] = [];
  for (const [at, a] of all.entries())
    for (const [on, b] of all.slice(at + 1).entries()) {
      found.push([a, b]);
      if (sets > 1) for (const c of all.slice(at + on + 2)) found.push([a, b, c]);
    }
  return found;
}

function textOf(entry: Entry | undefined): string {
  if (entry === undefined) return 'nothing';
  return `${entry.value === undefined ? 'deleted' : JSON.stringify(entry.value)}@${entry.atMs}`;
}
