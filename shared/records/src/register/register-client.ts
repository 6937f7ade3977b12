import { randomBytes } from 'node:crypto';
import { backoffMs } from '@sepia/base/async/backoff';
import { OVER } from '@sepia/base/async/over';
import { Verdict } from '@sepia/base/async/verdict';
import { CodedError, isCoded } from '@sepia/base/errors';
import { isBug, readElsewhere, throwIfBug } from '@sepia/base/failure';
import { delay as realDelay } from '@sepia/base/lifecycle';
import type { Shard } from '@sepia/cluster/ring';
import { type Patience, Waits } from '../core/patience.ts';
import { counted, isQuorum, type Sender } from '../core/standing.ts';
import {
  MAX_REGISTER_REST_MS,
  REGISTER_GRACE_MS,
  REGISTER_HEDGE_MS,
  REGISTER_MS,
  REGISTER_REQUEST_MS,
  REGISTER_REST_MS,
} from '../deadlines.ts';
import { envelope, parseEnvelope } from './envelope.ts';
import {
  agreedState,
  type Ballot,
  newestValue,
  nextBallot,
  type RegisterReply,
  type RegisterRequest,
  type RegisterValue,
} from './register.ts';

/** A reply with what its sender knows; without it the sender is of the version before. */
export type SentReply = RegisterReply & { readonly sender?: Sender | undefined };

/** Owners of a key, or who they are at each try: a ring change may begin or end meanwhile. */
export type Owners = readonly string[] | (() => Shard);

export interface RegisterClientDeps {
  /**
   * Sends a request to one owner; rejects when it does not answer. A reply may come late or never: after `timeoutMs` it is
   * timed out here.
   */
  readonly transport: (
    memberId: string,
    request: RegisterRequest,
    signal: AbortSignal,
    timeoutMs: number,
  ) => Promise<SentReply>;
  /** 0 ≤ x < 1, for back-off. */
  readonly chance: () => number;
  readonly nowMs: () => number;
  readonly delay?: (ms: number, signal?: AbortSignal) => Promise<void>;
  /** True for an owner that did not answer of late: it is asked last. */
  readonly isSuspect?: (memberId: string) => boolean;
  /** True for an owner that failed for so long that patience would be in vain. */
  readonly isGone?: (memberId: string) => boolean;
  /** Makes proposer ids unique per process: two that share one could break a register. Default: random. */
  readonly incarnation?: string;
}

/**
 * `proposerId`: of this member, in each ballot. Waits in ms; defaults are {@link REGISTER_CLIENT_DEFAULTS}.
 */
export interface RegisterClientOptions {
  readonly proposerId: string;
  readonly deadlineMs?: number;
  readonly requestTimeoutMs?: number;
  readonly backoffMs?: number;
  readonly maxBackoffMs?: number;
  /** How often a round that too few owners answered is tried. */
  readonly quorumTries?: number;
  /** How long a read waits for the remaining owners when a majority answered but does not agree. */
  readonly graceMs?: number;
}

/** How one value is read or changed. */
export interface RegisterCall {
  readonly signal?: AbortSignal | undefined;
  /** Of a change that several proposers are given: it is made once. */
  readonly id?: string | undefined;
  /** Where nobody has another way: owners that are slow get time. */
  readonly patience?: Patience | undefined;
}

/** As {@link RegisterCall}, under way. */
interface Running extends RegisterCall {
  readonly waits: Waits;
  readonly untilMs: number;
}

const REGISTER_CLIENT_DEFAULTS: Readonly<Required<Omit<RegisterClientOptions, 'proposerId'>>> = Object.freeze(
  {
    deadlineMs: REGISTER_MS,
    requestTimeoutMs: REGISTER_REQUEST_MS,
    backoffMs: REGISTER_REST_MS,
    maxBackoffMs: MAX_REGISTER_REST_MS,
    quorumTries: 3,
    graceMs: REGISTER_GRACE_MS,
  },
);

type StateReply = Extract<RegisterReply, { type: 'state' }>;

type Counted<T> = T & { readonly sender: Sender };

/** How a round ended: enough good replies, or a higher ballot in the way, or too few answers. */
type Round<T> =
  | { readonly type: 'quorum'; readonly replies: Counted<T>[] }
  | { readonly type: 'refused' }
  | { readonly type: 'lost' };

/**
 * Proposer of compare-and-set registers (CASPaxos). Owners are the configured ones of the key, never stand-ins; a
 * majority of them decides. All operations on one key are linearizable.
 */
export class RegisterClient {
  readonly #deps: RegisterClientDeps;
  readonly #options: typeof REGISTER_CLIENT_DEFAULTS;
  readonly #id: string;
  readonly #proposer: string;
  #counter = 0;

  constructor(deps: RegisterClientDeps, options: RegisterClientOptions) {
    this.#deps = deps;
    this.#options = { ...REGISTER_CLIENT_DEFAULTS, ...options };
    this.#id = options.proposerId;
    this.#proposer = `${options.proposerId}.${deps.incarnation ?? randomBytes(8).toString('hex')}`;
  }

  /**
   * The value of a register, undefined if never written. One round when a majority agrees, else a whole one that
   * settles it. @throws `QUORUM_LOST`, `CONFLICT`
   */
  async read<T = RegisterValue>(
    key: string,
    owners: Owners,
    call: RegisterCall = {},
  ): Promise<T | undefined> {
    const shard = shardNow(owners);
    const running = this.#begun(call);
    const agreedOf = (replies: readonly Counted<StateReply>[]): StateReply | undefined =>
      agreedState(replies, (agreeing) => isQuorum(idsOf(agreeing), shard.sets));
    const round = await this.#ask(
      shard,
      { type: 'read', key },
      isState,
      running,
      (replies) => agreedOf(replies) !== undefined,
    );
    const agreed = round.type === 'quorum' ? agreedOf(round.replies) : undefined;
    if (agreed !== undefined) return parseEnvelope(key, agreed.value).value as T | undefined;
    return await this.#change<T>(key, owners, (current) => current, this.#begun(call, running.waits));
  }

  /**
   * Replaces the value by what `fn` makes of it, and returns that. `fn` may run more than once, but takes effect once
   * (unless more than 32 others come between two tries); if it throws, the value it saw is settled first, then the
   * error goes on. Who hands the same change to several proposers gives it an `id`: it is made once, whichever of them
   * comes first, and the others get the value that is there. After `CONFLICT` or `QUORUM_LOST` the change may or may not have happened. @throws `QUORUM_LOST` if too few owners answer, `CONFLICT` if others kept winning up to the deadline
   */
  async change<T = RegisterValue>(
    key: string,
    owners: Owners,
    fn: (current: T | undefined) => T | undefined,
    call: RegisterCall = {},
  ): Promise<T | undefined> {
    return await this.#change(key, owners, fn, this.#begun(call));
  }

  #begun(call: RegisterCall, waits?: Waits): Running {
    const nowMs = this.#deps.nowMs();
    const { deadlineMs, requestTimeoutMs } = this.#options;
    const untilMs = nowMs + Math.max(deadlineMs, call.patience?.deadlineMs ?? 0);
    return { ...call, untilMs, waits: waits ?? new Waits(requestTimeoutMs, call.patience, nowMs) };
  }

  async #change<T>(
    key: string,
    owners: Owners,
    fn: (current: T | undefined) => T | undefined,
    running: Running,
  ): Promise<T | undefined> {
    const { signal, untilMs } = running;
    const proposed = new Map<string, T | undefined>();
    let lost = 0;
    for (let tries = 0; ; tries++) {
      signal?.throwIfAborted();
      const shard = shardNow(owners);
      const detail = { key, owners: shard.sets.length === 1 ? shard.sets[0] : shard.sets };
      if (shard.sets.some((set) => set.length === 0)) throw new CodedError('QUORUM_LOST', { detail });
      const outcome = await this.#attempt(key, shard, fn, proposed, running);
      if (outcome.type === 'done') return outcome.value;
      if (outcome.type === 'threw') throw outcome.error;
      if (outcome.type === 'lost') lost += 1;
      if (lost >= this.#options.quorumTries) throw new CodedError('QUORUM_LOST', { detail });
      if (this.#deps.nowMs() >= untilMs) {
        const code = outcome.type === 'lost' ? 'QUORUM_LOST' : 'CONFLICT';
        throw new CodedError(code, { detail: { ...detail, tries: tries + 1 } });
      }
      await (this.#deps.delay ?? realDelay)(this.#backoffMs(tries), signal);
    }
  }

  async #attempt<T>(
    key: string,
    shard: Shard,
    fn: (current: T | undefined) => T | undefined,
    proposed: Map<string, T | undefined>,
    running: Running,
  ) {
    const { id } = running;
    const ballot = nextBallot(this.#counter, this.#proposer);
    this.#counter = ballot.counter;
    const prepared = await this.#ask(shard, { type: 'prepare', key, ballot }, isState, running);
    if (prepared.type !== 'quorum') return prepared;
    for (const { accepted } of prepared.replies) this.#saw(accepted);
    const newest = newestValue(prepared.replies);
    const current = parseEnvelope(key, newest);
    const earlier = current.recent.find((change) => proposed.has(change) || change === id);
    const made =
      earlier === undefined
        ? attemptFn(fn, current.value as T | undefined)
        : {
            type: 'value' as const,
            value: proposed.has(earlier) ? proposed.get(earlier) : (current.value as T | undefined),
          };
    const changed = earlier === undefined && made.type === 'value' && made.value !== current.value;
    const change = id ?? `${ballot.counter}.${ballot.proposer}`;
    if (changed) proposed.set(change, made.value);
    const value = changed ? envelope(made.value, [...current.recent, change]) : newest;
    const request: RegisterRequest = {
      type: 'accept',
      key,
      ballot,
      ...(value === undefined ? {} : { value }),
    };
    const accepted = await this.#ask(shard, request, isAccepted, running);
    if (accepted.type !== 'quorum') return accepted;
    return made.type === 'value'
      ? { type: 'done' as const, value: made.value }
      : { type: 'threw' as const, error: made.error };
  }

  /**
   * Asks all owners; ends as soon as a quorum of replies counts and `enough` holds (or no further reply can come), or as
   * soon as a quorum is out of reach. Requests under way are not aborted then: late ones still teach owners. A prepare goes
   * to a quorum, and to the others once one of those is late or says anything but yes: what it asks of them the accept
   * brings them as well.
   */
  async #ask<R extends RegisterReply>(
    shard: Shard,
    request: RegisterRequest,
    isGood: (reply: RegisterReply) => reply is R,
    running: Running,
    enough: (replies: readonly Counted<R>[]) => boolean = () => true,
  ): Promise<Round<R>> {
    const { signal } = running;
    const owners = this.#inOrder(shard);
    const sent = shard.epoch === 0 ? request : { ...request, epoch: shard.epoch };
    const good: Counted<R>[] = [];
    const open = new Set(owners);
    const waiting = request.type === 'prepare' ? owners.slice(quorumOf(owners, shard.sets)) : [];
    const verdict = new Verdict<Round<R>>();
    const over = new AbortController();
    let refused = false;
    let late = false;
    const end = (round: Round<R>): void => {
      over.abort(OVER);
      verdict.give(round);
    };
    const judge = (): void => {
      const replies = counted(good);
      const isOne = isQuorum(idsOf(replies), shard.sets);
      if (isOne && !late && open.size > 0 && !enough(replies)) {
        late = true;
        this.#after(this.#options.graceMs, judge);
      } else if (isOne && (late || open.size === 0 || enough(replies))) end({ type: 'quorum', replies });
      else if (!isQuorum([...idsOf(replies), ...open], shard.sets))
        end(refused ? { type: 'refused' } : { type: 'lost' });
      // One of the first said no, said nothing, or does not count.
      else if (replies.length + open.size < owners.length) askRest();
    };
    const ask = (owner: string): void => {
      const answered = this.#send(owner, sent, running).then(
        (reply) => {
          const sender = reply.sender ?? { id: owner, generation: 0, known: {} };
          if (isGood(reply)) good.push({ ...reply, sender } as Counted<R>);
          else if (reply.type === 'refused') {
            refused = true;
            this.#saw(reply.promised);
          } else if (reply.type === 'outdated') refused = true;
        },
        (error: unknown) => {
          // Silence, or a refusal that says nothing of the register. A sole owner that cannot know says why.
          if (isBug(error) || (owners.length === 1 && isCoded(error, 'QUORUM_LOST'))) verdict.fail(error);
        },
      );
      void answered.finally(() => {
        open.delete(owner);
        judge();
      });
    };
    const askRest = (): void => {
      if (!over.signal.aborted) for (const owner of waiting.splice(0)) ask(owner);
    };
    const onAbort = (): void => verdict.fail(signal?.reason);
    signal?.throwIfAborted();
    signal?.addEventListener('abort', onAbort, { once: true });
    for (const owner of owners.slice(0, owners.length - waiting.length)) ask(owner);
    if (owners.length === 0) judge();
    if (waiting.length > 0)
      readElsewhere((this.#deps.delay ?? realDelay)(REGISTER_HEDGE_MS, over.signal).then(askRest));
    try {
      return await verdict.outcome;
    } finally {
      over.abort(OVER);
      signal?.removeEventListener('abort', onAbort);
    }
  }

  /** This member first: it needs no call. */
  #inOrder({ sets }: Shard): string[] {
    const { isSuspect = () => false } = this.#deps;
    const rank = (id: string): number => (id === this.#id ? 0 : isSuspect(id) ? 2 : 1);
    return [...new Set(sets.flat())].sort((a, b) => rank(a) - rank(b));
  }

  async #send(owner: string, request: RegisterRequest, { signal, waits }: Running): Promise<SentReply> {
    const { transport, nowMs, isGone = () => false } = this.#deps;
    const timeoutMs = waits.messageMs(owner, nowMs(), isGone(owner));
    const ended = new AbortController();
    const either = signal === undefined ? ended.signal : AbortSignal.any([ended.signal, signal]);
    const timedOut = (this.#deps.delay ?? realDelay)(timeoutMs, either).then(() => {
      waits.silent(owner, timeoutMs);
      throw new CodedError('TIMEOUT', { detail: { owner } });
    });
    try {
      return await Promise.race([transport(owner, request, either, timeoutMs), timedOut]);
    } finally {
      readElsewhere(timedOut);
      ended.abort(OVER);
    }
  }

  #after(ms: number, then: () => void): void {
    (this.#deps.delay ?? realDelay)(ms).then(then, then);
  }

  #saw(ballot: Ballot): void {
    this.#counter = Math.max(this.#counter, ballot.counter);
  }

  #backoffMs(tries: number): number {
    const { backoffMs: firstMs, maxBackoffMs } = this.#options;
    return backoffMs(tries + 1, firstMs, maxBackoffMs) * (0.5 + this.#deps.chance());
  }
}

function shardNow(owners: Owners): Shard {
  return typeof owners === 'function' ? owners() : { epoch: 0, sets: [owners] };
}

/** Length of the shortest prefix of `owners` that is a quorum; of the whole list where that is none. */
function quorumOf(owners: readonly string[], sets: Shard['sets']): number {
  const last = owners.findIndex((_, index) => isQuorum(owners.slice(0, index + 1), sets));
  return last < 0 ? owners.length : last + 1;
}

function idsOf(replies: readonly { readonly sender: Sender }[]): string[] {
  return replies.map(({ sender }) => sender.id);
}

function attemptFn<T>(fn: (current: T | undefined) => T | undefined, current: T | undefined) {
  try {
    return { type: 'value' as const, value: fn(current) };
  } catch (error) {
    throwIfBug(error);
    return { type: 'error' as const, error };
  }
}

function isState(reply: RegisterReply): reply is StateReply {
  return reply.type === 'state';
}

function isAccepted(reply: RegisterReply): reply is Extract<RegisterReply, { type: 'accepted' }> {
  return reply.type === 'accepted';
}
