import { answersOf, askAll } from '@sepia/base/async/ask-many';
import { CodedError } from '@sepia/base/errors';
import { type Entry, joinWhole } from '@sepia/records/core/join';
import {
  clockOf,
  inTheWay,
  standingOf,
  standsLater,
  type ToldClocks,
  taken,
  tryStep,
  writeStep,
} from '@sepia/records/core/set-protocol';
import { isReadQuorum, type Sender } from '@sepia/records/core/standing';
import {
  type AcceptorState,
  acceptorStep,
  EMPTY_ACCEPTOR,
  type RegisterReply,
} from '@sepia/records/register/register';
import { RegisterClient } from '@sepia/records/register/register-client';
import { call, type Life } from '../wire/call.ts';
import type { Port } from '../wire/network.ts';
import type { Stage } from '../wire/stage.ts';

/** Longest wait for an owner, ms, and tries of one write. */
const SILENT_MS = 2_000;
const TRIES = 5;

/** What an owner says to a write of a set. */
interface PutReply extends ToldClocks {
  readonly sender: Sender;
}

interface Owners {
  readonly ids: readonly string[];
  readonly life: (id: string) => Life;
  readonly port: (id: string) => Port;
}

/** Tags and links on the origins of a run: registers and sets by the rules that ship; what an owner said is on its disk. */
export class SimRecords {
  readonly #stage: Stage;
  readonly #owners: Owners;
  readonly #registers = new Map<string, AcceptorState>();
  readonly #links = new Map<string, Entry>();

  constructor(stage: Stage, owners: Owners) {
    this.#stage = stage;
    this.#owners = owners;
  }

  /** Who reads and changes tags from there. */
  tags(name: string, from: Port): RegisterClient {
    const { clock, chance } = this.#stage;
    return new RegisterClient(
      {
        transport: async (id, request) => {
          const reply = await this.#call<RegisterReply>(from, id, () => {
            const key = `${id}\n${request.key}`;
            const { next, reply } = acceptorStep(this.#registers.get(key) ?? EMPTY_ACCEPTOR, request);
            this.#registers.set(key, structuredClone(next));
            return structuredClone(reply);
          });
          if (reply === undefined) throw new CodedError('TIMEOUT', { detail: { owner: id } });
          return reply;
        },
        chance: () => chance.next(),
        nowMs: () => clock.nowMs,
        delay: (ms, signal) => this.delay(ms, signal),
        incarnation: name,
      },
      { proposerId: name },
    );
  }

  readonly delay = (ms: number, signal?: AbortSignal): Promise<void> =>
    new Promise((resolve, reject) => {
      const { clock } = this.#stage;
      clock.at(clock.nowMs + ms, resolve);
      signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
    });

  /** A link is on a quorum once it resolves. @throws `QUORUM_LOST`, `CONFLICT` */
  async link(from: Port, key: string, value: unknown): Promise<void> {
    let told: ToldClocks = {};
    for (let left = TRIES; ; left--) {
      const entry = { atMs: clockOf(Math.floor(this.#stage.clock.nowMs), told), value };
      const { isAcknowledged, ...clocks } = await this.#put(from, key, entry);
      const step = tryStep({
        isAcknowledged,
        behindMs: clocks.behindMs,
        aheadMs: clocks.aheadMs,
        isMoved: false,
        left,
      });
      if (step === 'done') return;
      if (step !== 'again') throw new CodedError(step === 'failed' ? 'QUORUM_LOST' : 'CONFLICT');
      told = clocks;
    }
  }

  /** What stands under a key, as so many owners say that one of them knows. @throws `QUORUM_LOST` */
  async linked(from: Port, key: string): Promise<Entry | undefined> {
    const { ids } = this.#owners;
    const said = await askAll(ids, async (id) => {
      const told = await this.#call(from, id, () => ({ id, entry: this.#links.get(`${id}\n${key}`) }));
      if (told === undefined) throw new CodedError('TIMEOUT', { detail: { owner: id } });
      return told;
    });
    const told = answersOf(said);
    const heard = told.map(({ id }) => id);
    if (!isReadQuorum(heard, { epoch: 0, sets: [ids] })) throw new CodedError('QUORUM_LOST');
    return standingOf(
      told.map(({ entry }) => entry),
      joinWhole,
    );
  }

  async #put(from: Port, key: string, entry: Entry): Promise<ToldClocks & { isAcknowledged: boolean }> {
    const { ids } = this.#owners;
    const acks: PutReply[] = [];
    const open = new Set(ids);
    let clocks: ToldClocks = {};
    return await new Promise((resolve) => {
      for (const id of ids)
        void this.#call<PutReply>(from, id, () => this.#take(id, key, entry)).then((reply) => {
          open.delete(id);
          if (reply?.behindMs !== undefined)
            clocks = { ...clocks, behindMs: later(clocks.behindMs, reply.behindMs) };
          else if (reply !== undefined) {
            acks.push(reply);
            if (reply.aheadMs !== undefined)
              clocks = { ...clocks, aheadMs: later(clocks.aheadMs, reply.aheadMs) };
          }
          const step = writeStep(acks, open, [ids]);
          if (step !== 'open') resolve({ ...clocks, isAcknowledged: step === 'done' });
        });
    });
  }

  #take(id: string, key: string, entry: Entry): PutReply {
    const place = `${id}\n${key}`;
    const before = this.#links.get(place);
    const standing = taken(before, entry, joinWhole) ?? before;
    if (standing !== undefined) this.#links.set(place, standing);
    return {
      sender: { id, generation: 0, known: {} },
      behindMs: inTheWay(entry, standing, false),
      aheadMs: standsLater(entry, standing, false),
    };
  }

  /** Undefined: no answer. */
  #call<T>(from: Port, id: string, run: () => T): Promise<T | undefined> {
    const { life, port } = this.#owners;
    const line = { from, to: port(id), life: () => life(id), timeoutMs: SILENT_MS };
    return new Promise((resolve) =>
      call<T>(
        this.#stage,
        line,
        (reply) => reply(run()),
        (outcome) => resolve(outcome.type === 'answer' ? outcome.answer : undefined),
      ),
    );
  }
}

function later(a: number | undefined, b: number): number {
  return a === undefined ? b : Math.max(a, b);
}
