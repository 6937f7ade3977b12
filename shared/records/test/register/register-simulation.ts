import { seeded } from '@sepia/test-support/seeded';
import {
  type AcceptorState,
  acceptorStep,
  EMPTY_ACCEPTOR,
  type RegisterReply,
  type RegisterRequest,
} from '../../src/register/register.ts';
import { RegisterClient } from '../../src/register/register-client.ts';

/** What a client saw: the whole list it read, or made by appending `appended`. */
export interface Operation {
  readonly client: string;
  readonly beganAt: number;
  endedAt: number;
  readonly appended?: string;
  list?: readonly string[];
}

export interface Faults {
  readonly loss: number;
  readonly duplication: number;
  readonly restart: number;
}

interface Event {
  readonly run: () => void;
  readonly atMs: number;
}

/**
 * Registers on acceptors that lose, repeat and reorder messages and restart, under a virtual clock with seeded chance.
 * Acceptors keep what they made durable; a request in the middle of a restart is lost.
 */
export class RegisterSimulation {
  readonly history: Operation[] = [];
  readonly #chance: () => number;
  readonly #faults: Faults;
  readonly #owners: readonly string[];
  readonly #isShared: boolean;
  readonly #disks = new Map<string, AcceptorState>();
  readonly #downUntilMs = new Map<string, number>();
  #events: Event[] = [];
  #nowMs = 0;
  #ticks = 0;

  /** `isShared`: all owners answer for one acceptor, as origins do whose records rest in one database. */
  constructor(
    seed: number,
    faults: Faults,
    {
      owners = ['o1', 'o2', 'o3'],
      isShared = false,
    }: { owners?: readonly string[]; isShared?: boolean } = {},
  ) {
    this.#chance = seeded(seed);
    this.#faults = faults;
    this.#owners = owners;
    this.#isShared = isShared;
  }

  client(name: string): RegisterClient {
    return new RegisterClient(
      {
        transport: (member, request) => this.#send(member, request),
        chance: this.#chance,
        nowMs: () => this.#nowMs,
        delay: (ms, signal) => this.#delay(ms, signal),
        incarnation: name,
      },
      { proposerId: 'p', deadlineMs: 3000, requestTimeoutMs: 100, quorumTries: 20 },
    );
  }

  /** One after another, appends and reads by `client`; unknown outcomes stay open-ended. */
  async work(name: string, client: RegisterClient, steps: number): Promise<void> {
    for (let step = 0; step < steps; step++) {
      const appended = this.#chance() < 0.5 ? `${name}${step}` : undefined;
      const operation: Operation = {
        client: name,
        beganAt: this.#ticks++,
        endedAt: Number.POSITIVE_INFINITY,
        ...(appended && { appended }),
      };
      this.history.push(operation);
      try {
        const list =
          appended === undefined
            ? await client.read<string[]>('k', this.#owners)
            : await client.change<string[]>('k', this.#owners, (current) => [...(current ?? []), appended]);
        operation.list = list ?? [];
        operation.endedAt = this.#ticks++;
      } catch {
        // The outcome is unknown: the checker lets it happen at any later time, or never.
      }
    }
  }

  /** Runs events in seeded order until `done`. */
  async run(done: Promise<unknown>): Promise<void> {
    let ended = false;
    const end = (): void => {
      ended = true;
    };
    done.then(end, end);
    for (;;) {
      for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
      if (ended) break;
      const event = this.#next();
      if (event === undefined) throw new Error('the simulation stands still');
      this.#nowMs = Math.max(this.#nowMs, event.atMs);
      event.run();
    }
    await done;
  }

  #next(): Event | undefined {
    let first = 0;
    for (let index = 1; index < this.#events.length; index++)
      if (this.#events[index]!.atMs < this.#events[first]!.atMs) first = index;
    return this.#events.splice(first, 1)[0];
  }

  #later(ms: number, run: () => void): void {
    this.#events.push({ atMs: this.#nowMs + ms, run });
  }

  #delay(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#later(ms, resolve);
      signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  }

  #send(member: string, request: RegisterRequest): Promise<RegisterReply> {
    return new Promise((resolve) => {
      const copies = this.#chance() < this.#faults.duplication ? 2 : 1;
      for (let copy = 0; copy < copies; copy++) {
        if (this.#chance() < this.#faults.loss) continue;
        this.#later(this.#latencyMs(), () => this.#deliver(member, structuredClone(request), resolve));
      }
    });
  }

  #deliver(member: string, request: RegisterRequest, answer: (reply: RegisterReply) => void): void {
    if ((this.#downUntilMs.get(member) ?? 0) > this.#nowMs) return;
    if (this.#chance() < this.#faults.restart)
      this.#downUntilMs.set(member, this.#nowMs + this.#chance() * 200);
    const disk = this.#isShared ? 'all' : member;
    const { next, reply } = acceptorStep(this.#disks.get(disk) ?? EMPTY_ACCEPTOR, request, {
      isShared: this.#isShared,
    });
    const crashedBeforeDurable = (this.#downUntilMs.get(member) ?? 0) > this.#nowMs && this.#chance() < 0.5;
    if (crashedBeforeDurable) return;
    this.#disks.set(disk, structuredClone(next));
    if (this.#chance() < this.#faults.loss) return;
    this.#later(this.#latencyMs(), () => answer(structuredClone(reply)));
  }

  #latencyMs(): number {
    return this.#chance() < 0.1 ? this.#chance() * 300 : this.#chance() * 5;
  }
}

/**
 * Says why a history of appends and reads on one list is not linearizable, or undefined. Since every answer is the
 * whole list, an order exists if and only if: all lists are prefixes of one another; what ended before another began
 * is contained in it; nothing is seen before it was asked for, twice, or from nowhere.
 */
export function findAnomaly(history: readonly Operation[]): string | undefined {
  const known = history.filter(
    (one): one is Operation & { list: readonly string[] } => one.list !== undefined,
  );
  const longest = known.reduce<readonly string[]>(
    (best, { list }) => (list.length > best.length ? list : best),
    [],
  );
  if (new Set(longest).size !== longest.length) return `twice: ${longest}`;
  for (const { client, list, appended, endedAt } of known) {
    if (list.some((item, index) => longest[index] !== item))
      return `${client} saw ${list}, no prefix of ${longest}`;
    if (appended !== undefined && list.at(-1) !== appended)
      return `${client} appended ${appended}, got ${list}`;
    for (const item of list) {
      const writer = history.find((one) => one.appended === item);
      if (writer === undefined || writer.beganAt > endedAt) return `${client} saw ${item} from nowhere`;
    }
  }
  for (const earlier of known) {
    for (const later of known) {
      if (earlier.endedAt >= later.beganAt) continue;
      const grown = later.list.length - earlier.list.length;
      if (grown < (later.appended === undefined ? 0 : 1))
        return `${later.client} saw ${later.list} after ${earlier.list}`;
    }
  }
  return undefined;
}
