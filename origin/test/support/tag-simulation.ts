import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { parseRepositoryName, parseTag } from '@sepia/base/names/repository';
import { ungenerated } from '@sepia/records/core/standing';
import { parseRegisterRequest } from '@sepia/records/register/acceptor-store';
import { NO_BALLOT } from '@sepia/records/register/register';
import { RecordStore } from '@sepia/records/store/record-store';
import { LevelTable } from '@sepia/records/table/level-table';
import type { Database } from '@sepia/store/data-folder';
import { seeded } from '@sepia/test-support/seeded';
import type { TagInput, TagOperation, TagOutput } from '@sepia/test-support/tag-model';
import type { Members } from '../../src/cluster/members.ts';
import { type TagName, Tags } from '../../src/records/tags.ts';
import type { TagRules } from '../../src/upstream/core/tag-policy.ts';

/** Faults that the right code must not have; the checker must find each. */
export type PlantedBug = 'quorum-of-one' | 'no-first-phase' | 'answers-before-durable';

export interface TagFaults {
  readonly loss: number;
  /** Chance that a member dies when it gets a message. */
  readonly crash: number;
  /** Chance that a member is cut off when it gets a message. */
  readonly partition: number;
  /** Clocks of members are apart by up to this. */
  readonly skewMs: number;
}

const MEMBERS = ['o1', 'o2', 'o3', 'o4', 'o5'];
const OWNERS = MEMBERS.slice(0, 3);
const TAGS = ['latest', 'v1'];
const RULES: TagRules = { mode: 'none', policy: 'mutable', ttlMs: 0, staleLimitMs: 0 };
const IMMUTABLE: TagRules = { ...RULES, policy: 'immutable' };

interface Member {
  readonly id: string;
  readonly skewMs: number;
  /** What survives a crash. */
  readonly disk: Map<string, string>;
  life: Life | undefined;
  cutUntilMs: number;
}

/** One run of a member's process. */
interface Life {
  readonly tags: Tags;
  readonly records: RecordStore;
  readonly died: AbortController;
}

/**
 * Tags of the real code (`Tags`, `RegisterClient`, `AcceptorStore`) on five members, three of them owners, that crash,
 * are cut off, lose and delay messages, under a virtual clock with seeded chance. A disk keeps what was synced; a write
 * under way in a crash is there or not.
 */
export class TagSimulation {
  readonly history: TagOperation[] = [];
  readonly #chance: () => number;
  readonly #faults: TagFaults;
  readonly #bug: PlantedBug | undefined;
  readonly #members = new Map<string, Member>();
  #events: { readonly atMs: number; readonly run: () => void }[] = [];
  #nowMs = 1_000_000;
  #ticks = 0;
  #lives = 0;
  #calm = false;

  constructor(seed: number, faults: TagFaults, bug?: PlantedBug) {
    this.#chance = seeded(seed);
    this.#faults = faults;
    this.#bug = bug;
    for (const id of MEMBERS) {
      const skewMs = (this.#chance() - 0.5) * 2 * faults.skewMs;
      const member: Member = { id, skewMs, disk: new Map(), life: undefined, cutUntilMs: 0 };
      this.#members.set(id, member);
      this.#begin(member);
    }
  }

  /** Runs clients that work at once, then heals everything and reads each tag once more at every member. */
  async run(clients: number, steps: number): Promise<void> {
    const works = Array.from({ length: clients }, (_, at) => this.#client(`c${at}`, steps));
    await this.#drive(Promise.all(works));
    this.#calm = true;
    for (const member of this.#members.values()) {
      member.cutUntilMs = 0;
      if (member.life === undefined) this.#begin(member);
    }
    const reads = MEMBERS.flatMap((id) =>
      TAGS.map((tag) => this.#operate(`end-${id}`, id, tag, { type: 'read' })),
    );
    await this.#drive(Promise.all(reads));
  }

  /** Why the histories that the registers keep do not tell of every acknowledged move once, or undefined. */
  async findLostMove(): Promise<string | undefined> {
    let found: string | undefined;
    const look = async (): Promise<void> => {
      for (const tag of TAGS) {
        const state = await this.#members.get('o4')!.life!.tags.state(nameOf(tag));
        const kept = (state?.history ?? []).flatMap((move) => move.digest ?? []);
        for (const { input, output, tag: other } of this.history) {
          if (other !== tag || (input.type !== 'set' && input.type !== 'put')) continue;
          const times = kept.filter((digest) => digest === input.digest).length;
          const wanted =
            output?.type === 'done' ? times === 1 : output === undefined ? times <= 1 : times === 0;
          if (!wanted) found ??= `${tag}: ${input.digest} is ${times} times in its history`;
        }
      }
    };
    await this.#drive(look());
    return found;
  }

  async #client(client: string, steps: number): Promise<void> {
    let last = 'nothing';
    for (let step = 0; step < steps; step++) {
      await this.#delay(this.#chance() * 60);
      const tag = this.#pick(TAGS);
      const digest = `${client}.${step}`;
      const dice = this.#chance();
      const input: TagInput =
        dice < 0.4
          ? { type: 'read' }
          : dice < 0.65
            ? { type: 'set', digest }
            : dice < 0.8
              ? { type: 'put', digest }
              : dice < 0.9
                ? { type: 'drop', seen: last }
                : { type: 'remove' };
      const output = await this.#operate(client, this.#pick(MEMBERS), tag, input);
      if (output?.type === 'value' && output.value !== '') last = output.value;
    }
  }

  async #operate(client: string, id: string, tag: string, input: TagInput): Promise<TagOutput | undefined> {
    const life = this.#members.get(id)!.life;
    if (life === undefined) return undefined;
    const operation: TagOperation = {
      client,
      tag,
      input,
      beganAt: this.#ticks++,
      endedAt: Number.POSITIVE_INFINITY,
    };
    this.history.push(operation);
    try {
      const output = await Promise.race([this.#call(life.tags, nameOf(tag), input), death(life)]);
      operation.output = output;
      operation.endedAt = this.#ticks++;
      return output;
    } catch (error) {
      if (!isCoded(error)) throw error;
      return undefined;
    }
  }

  async #call(tags: Tags, name: TagName, input: TagInput): Promise<TagOutput> {
    switch (input.type) {
      case 'read':
        return { type: 'value', value: (await tags.read(name))?.digest ?? '' };
      case 'remove':
        return { type: 'changed', changed: await tags.delete(name) };
      case 'drop': {
        const seen = { digest: input.seen as Digest, checkedAtMs: Number.MAX_SAFE_INTEGER };
        return { type: 'changed', changed: await tags.drop(name, seen) };
      }
      default:
        try {
          await tags.move(name, input.digest as Digest, input.type === 'put' ? IMMUTABLE : RULES, 'push');
          return { type: 'done' };
        } catch (error) {
          if (isCoded(error, 'TAG_IMMUTABLE')) return { type: 'refused' };
          throw error;
        }
    }
  }

  #begin(member: Member): void {
    const died = new AbortController();
    const records = new RecordStore({ table: new LevelTable({ db: this.#database(member, died.signal) }) });
    const nowMs = (): number => Math.round(this.#nowMs + member.skewMs);
    const members: Pick<Members, 'selfId' | 'shard' | 'counted' | 'isSuspect' | 'isGone'> = {
      selfId: member.id,
      shard: () => {
        const at = MEMBERS.indexOf(member.id) % OWNERS.length;
        return { epoch: 0, sets: [this.#bug === 'quorum-of-one' ? [OWNERS[at]!] : OWNERS] };
      },
      isSuspect: () => false,
      isGone: () => false,
      counted: async <T>(id: string, call: { readonly json?: unknown }) => ({
        sender: { id, generation: 0, known: {} },
        answer: (await this.#send(member, died.signal, id, call.json)) as T,
      }),
    };
    const sender = { id: member.id, generation: 0, known: {} };
    const standing = { require: () => undefined, sender, standing: ungenerated(member.id) };
    const delay = async (ms: number, signal?: AbortSignal): Promise<void> => await this.#delay(ms, signal);
    const incarnation = `i${this.#lives++}`;
    const tags = new Tags({
      members,
      records,
      standing,
      nowMs,
      dateMs: nowMs,
      chance: this.#chance,
      delay,
      incarnation,
    });
    member.life = { tags, records, died };
  }

  #crash(member: Member): void {
    const { life } = member;
    if (life === undefined) return;
    member.life = undefined;
    life.died.abort(new CodedError('PEER_HTTP', { message: 'died' }));
    this.#later(20 + this.#chance() * 400, () => {
      if (member.life === undefined) this.#begin(member);
    });
  }

  /** A message to a member and its answer, each lost or late as chance wants. */
  #send(from: Member, alive: AbortSignal, id: string, message: unknown): Promise<unknown> {
    return new Promise((resolve) => {
      const isPrepare = (message as { type?: unknown }).type === 'prepare';
      if (this.#bug === 'no-first-phase' && isPrepare) return resolve({ type: 'state', accepted: NO_BALLOT });
      const target = this.#members.get(id)!;
      if (alive.aborted || this.#isLost(from, target)) return;
      const copies = this.#chance() < this.#faults.loss ? 2 : 1;
      for (let copy = 0; copy < copies; copy++)
        this.#later(this.#latencyMs(), () => {
          this.#strike(target);
          const { life } = target;
          if (life === undefined) return;
          life.records.registers
            .handle(parseRegisterRequest(structuredClone(message)))
            .then((reply) => {
              if (alive.aborted || this.#isLost(target, from)) return;
              this.#later(this.#latencyMs(), () => resolve(structuredClone(reply)));
            })
            .catch((error: unknown) => {
              if (!isCoded(error)) throw error;
            });
        });
    });
  }

  #strike(member: Member): void {
    if (this.#calm) return;
    if (this.#chance() < this.#faults.crash) this.#crash(member);
    if (this.#chance() < this.#faults.partition) member.cutUntilMs = this.#nowMs + this.#chance() * 1_500;
  }

  #isLost(from: Member, to: Member): boolean {
    if (from === to || this.#calm) return false;
    const isCut = Math.max(from.cutUntilMs, to.cutUntilMs) > this.#nowMs;
    return isCut || this.#chance() < this.#faults.loss;
  }

  /** The part of a database that records use: a batch is on the disk when it resolves. */
  #database(member: Member, died: AbortSignal): Database {
    const { disk } = member;
    const unsynced = new Map<string, string>();
    const database = {
      get: async (key: string) => unsynced.get(key) ?? disk.get(key),
      write: (writes: readonly { readonly key: string; readonly value: string }[]) =>
        new Promise<void>((resolve) => {
          // What a process that died goes on to do here, no process does there: the next one has its folder.
          if (died.aborted) return;
          const sync = (): void => {
            // A crash in the middle of a sync: the batch is whole on the disk, or not there.
            if (died.aborted && this.#chance() < 0.5) return;
            for (const { key, value } of writes) disk.set(key, value);
            if (!died.aborted) resolve();
          };
          if (this.#bug === 'answers-before-durable') {
            for (const { key, value } of writes) unsynced.set(key, value);
            this.#later(200, () => {
              if (!died.aborted) sync();
            });
            return resolve();
          }
          this.#later(this.#chance() * 4, sync);
        }),
    };
    return database as unknown as Database;
  }

  /** Runs events in their order until `done`. */
  async #drive(done: Promise<unknown>): Promise<void> {
    let ended = false;
    const end = (): void => {
      ended = true;
    };
    done.then(end, end);
    for (;;) {
      for (let turn = 0; turn < 2; turn++) await new Promise((resolve) => setImmediate(resolve));
      if (ended) break;
      const event = this.#next();
      if (event === undefined) throw new Error('the simulation stands still');
      this.#nowMs = Math.max(this.#nowMs, event.atMs);
      event.run();
    }
    await done;
  }

  #next(): { readonly atMs: number; readonly run: () => void } | undefined {
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
      const event = { atMs: this.#nowMs + ms, run: resolve };
      this.#events.push(event);
      const onAbort = (): void => {
        this.#events = this.#events.filter((one) => one !== event);
        reject(signal?.reason);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  #latencyMs(): number {
    return this.#chance() < 0.1 ? this.#chance() * 300 : this.#chance() * 5;
  }

  #pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.#chance() * list.length)]!;
  }
}

function death(life: Life): Promise<never> {
  return new Promise((_, reject) => {
    if (life.died.signal.aborted) reject(life.died.signal.reason);
    life.died.signal.addEventListener('abort', () => reject(life.died.signal.reason), { once: true });
  });
}

function nameOf(tag: string): TagName {
  return { upstream: 'local', repository: parseRepositoryName('team/app'), tag: parseTag(tag) };
}
