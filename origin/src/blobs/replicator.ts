import { backoffMs } from '@sepia/base/async/backoff';
import { fewAtOnce } from '@sepia/base/async/few-at-once';
import { Passes } from '@sepia/base/async/passes';
import { SingleFlight } from '@sepia/base/async/single-flight';
import { Verdict } from '@sepia/base/async/verdict';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { ignoreFailure, isBug, logFailure, outcomeOf, throwIfBug } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import type { Logger } from '@sepia/base/log';
import type { Where } from '@sepia/cluster/api/blob-answers';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import type { BlobStore } from '@sepia/store/blob-store';
import { CopyFailures, diskTold } from '../cluster/copy-failures.ts';
import type { Members } from '../cluster/members.ts';
import { COPY_LOOK_MS, MAX_COPY_RETRY_MS } from '../deadlines/members.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import { knowsPushes } from './core/brought-by.ts';
import { Placing } from './core/placing.ts';
import type { Hint, Hints } from './hints.ts';
import {
  CHUNK_BYTES,
  type CopyName,
  type CopyTarget,
  type LinksTaken,
  type SentCopy,
  sendCopy,
  watched,
  wholeOf,
} from './sent-blob.ts';

/** Copies under way at once beside those that a push waits for. */
const BACKGROUND_COPIES = 2;
/** Owed copies of which it is remembered that they failed; others are tried again sooner. */
const MAX_FAILING = 20_000;
/** Memberships that one push may see. */
const MAX_EPOCHS = 5;

interface ReplicatorDeps {
  readonly members: Members;
  readonly store: BlobStore;
  readonly hints: Hints;
  readonly upstreams: Pick<Upstreams, 'keepsPushes'>;
  /** Looks whether the copy here is damaged, and mends it. */
  readonly lookAgain: (digest: Digest) => Promise<void>;
  readonly log: Logger;
}

/**
 * Brings pushed blobs to their owners. A push waits for W durable copies (stand-ins count for owners that are
 * away); what is missing then is owed, in the records, and made good later, also after a restart.
 */
export class Replicator {
  readonly #deps: ReplicatorDeps;
  readonly #stragglerMs: number;
  readonly #failures: CopyFailures;
  readonly #passes: Passes;
  readonly #backoff = new LatestMap<string, { failures: number; untilMs: number }>(MAX_FAILING);
  /** Copies under way, by digest, target and upstream: who wants one of them joins it. */
  readonly #copies = new SingleFlight<string, { readonly links?: unknown; readonly taken?: LinksTaken }>();
  /** Pushes and copies that need the blob in this store: it is not handed over meanwhile. */
  readonly #held = new Map<Digest, number>();
  /** Of blobs that are looked at whether they may go: what was seen counts until somebody needs them again. */
  readonly #looks = new Map<Digest, object>();

  constructor(deps: ReplicatorDeps, options: { readonly stragglerMs: number }) {
    this.#deps = deps;
    this.#stragglerMs = options.stragglerMs;
    this.#failures = new CopyFailures({ log: deps.log, nowMs: () => performance.now() });
    this.#passes = new Passes({
      name: 'owed-copies',
      pass: async (signal) => await this.#retry(signal),
      firstMs: COPY_LOOK_MS,
      rest: async ({ isFailed }, signal) => await this.#rest(isFailed, signal),
      log: deps.log,
      failed: 'owed copies were not looked through; they are again',
    });
  }

  start(): void {
    this.#passes.start();
  }

  async stop(): Promise<void> {
    await this.#passes.stop();
  }

  /** Runs `work`, while which a blob that this origin keeps for others alone stays in its store. */
  async hold<T>(digest: Digest, work: () => Promise<T>): Promise<T> {
    this.#looks.delete(digest);
    this.#held.set(digest, (this.#held.get(digest) ?? 0) + 1);
    try {
      return await work();
    } finally {
      const left = this.#held.get(digest)! - 1;
      if (left > 0) this.#held.set(digest, left);
      else this.#held.delete(digest);
      if (left === 0) void this.#tidy(digest);
    }
  }

  /**
   * Copies a blob that is durable in this origin's store, and {@link hold held} there, to its owners; resolves when W
   * members have it. @throws `QUORUM_LOST`
   */
  async place(name: CopyName, sent: SentCopy = {}): Promise<void> {
    const { members } = this.#deps;
    for (let tries = 1; ; tries++) {
      const { epoch } = members;
      try {
        await this.#placeOnce(name, epoch, sent);
        // Copies count under the membership that they were asked for by: old owners may have handed over meanwhile.
        if (members.epoch === epoch) return;
      } catch (error) {
        throwIfBug(error);
        await members.news();
        if (members.epoch === epoch) throw error;
      }
      if (tries >= MAX_EPOCHS) throw new CodedError('EPOCH_OUTDATED', { detail: { epoch } });
    }
  }

  async #placeOnce(name: CopyName, epoch: number, sent: SentCopy): Promise<void> {
    const { members, hints, log } = this.#deps;
    const ownership = members.placement(name.digest);
    const placing = new Placing(members.selfId, ownership, members.shard(name.digest).sets);
    // Durable before the push is acknowledged, not before the copies begin: until then nothing is promised.
    const noted = hints.add(...placing.owners.map((target) => ({ ...name, target })));
    const verdict = new Verdict<void>();
    const late = new AbortController();
    let running = 0;
    let cut: NodeJS.Timeout | undefined;
    let lastError: unknown;
    const judge = (): void => {
      if (placing.isEnough) {
        cut ??= setTimeout(
          () => late.abort(new CodedError('TIMEOUT', { message: 'copy is far behind the others' })),
          this.#stragglerMs,
        );
        verdict.give();
      }
      if (running > 0) return;
      clearTimeout(cut);
      if (!placing.isEnough)
        verdict.fail(
          new CodedError('QUORUM_LOST', {
            message: `too few origins took a copy${diskTold(lastError)}`,
            detail: { digest: name.digest, copies: placing.copies, needed: ownership.writeQuorum },
            cause: lastError,
          }),
        );
    };
    const copy = async (id: string, isStandIn: boolean): Promise<void> => {
      const links = sent.links?.mayRide(id, epoch) === true ? sent.links : undefined;
      const copied = this.#copy(name, id, isStandIn, late.signal, { epoch, small: sent.small, links });
      links?.sent(id, copied.catch(ignoreFailure));
      try {
        await copied;
      } catch (error) {
        if (isBug(error)) verdict.fail(error);
        lastError = error;
        this.#failures.note(name.digest, id, error);
        const standIn = placing.failed();
        if (standIn !== undefined) begin(standIn, true);
        return;
      }
      placing.took(id);
      judge();
      if (isStandIn) return;
      // What is owed no more is taken off the disk behind the push's back.
      await noted;
      hints.done({ ...name, target: id });
    };
    const begin = (id: string, isStandIn: boolean): void => {
      running += 1;
      copy(id, isStandIn)
        .catch((error: unknown) => logFailure(log, error, 'copy was not noted', {}, 'error'))
        .finally(() => {
          running -= 1;
          judge();
          if (running === 0) void this.#tidy(name.digest);
        });
    };
    for (const id of placing.owners) begin(id, false);
    judge();
    await Promise.all([verdict.outcome, noted]);
  }

  /** Makes one copy now, or joins the one under way; it is owed until it is made. @throws `PEER_HTTP` and the like */
  async copyTo(name: CopyName, id: string): Promise<void> {
    await this.#deps.hints.add({ ...name, target: id });
    await this.#copy(name, id, false, this.#passes.signal);
    this.#deps.hints.done({ ...name, target: id });
  }

  /** As {@link copyTo}, of what is no loss: it is not owed. */
  async offer(name: CopyName, id: string, signal: AbortSignal): Promise<void> {
    await this.#copy(name, id, false, signal);
  }

  /** A stand-in gets a blob, by `take`, for owners that are away: it keeps it, and owes them a copy each when this resolves. */
  async standIn(name: CopyName, take: () => Promise<void>): Promise<void> {
    await this.hold(name.digest, async () => {
      await take();
      await this.owe(name);
    });
  }

  /** A copy is owed to each other owner, durably when it resolves. For {@link place} to find it so, while it is {@link hold held}. */
  async owe(name: CopyName): Promise<void> {
    const { members, hints } = this.#deps;
    const { owners } = members.placement(name.digest);
    const others = owners.filter((id) => id !== members.selfId);
    await hints.add(...others.map((target) => ({ ...name, target })));
  }

  /** Copies for `target` that failed are tried again at once: it came back, or asks for them. */
  retrySoon(target: string): void {
    for (const key of this.#backoff.keys()) if (key.endsWith(`\n${target}`)) this.#backoff.delete(key);
    this.#passes.wake();
  }

  /** How many copies are owed, for metrics and status. */
  owed(): number {
    return this.#deps.hints.size;
  }

  /** How many copies are owed that are not being made at this moment. */
  async overdue(): Promise<number> {
    return (await this.#deps.hints.all()).filter((hint) => !this.#isRunning(hint)).length;
  }

  /** Makes a copy, or joins the one under way; nothing is sent to an owner that has the blob. */
  async #copy(
    name: CopyName,
    id: string,
    isStandIn: boolean,
    signal: AbortSignal,
    options: Partial<SentCopy> & { readonly epoch?: number } = {},
  ): Promise<LinksTaken> {
    const { epoch = this.#deps.members.epoch, small, links } = options;
    // What began as a copy of a cached blob may be evicted there: no push counts it.
    const stat = small === undefined ? await this.#deps.store.stat(name.digest) : undefined;
    const key = `${copyKey(name, id, epoch, isStandIn)}${stat?.attrs.class === 'cached' ? '\ncached' : ''}`;
    const done = await this.#copies.run(
      key,
      async (both) => {
        const isAsked = small === undefined && !isStandIn;
        if (isAsked && (await this.#hasIt(name, id, both, epoch))) return {};
        const { members } = this.#deps;
        if (members.isSuspect(id))
          throw new CodedError('PEER_HTTP', { message: `${id} did not answer lately` });
        const target = { name, id, isStandIn, epoch };
        try {
          if (small !== undefined)
            return { links, taken: await sendCopy(members, target, small, both, links) };
          await this.#sendStored(target, both);
          return {};
        } catch (error) {
          // What was sent is not the blob: this copy rotted. It is mended, or no later try is better.
          if (isCoded(error, 'DIGEST_MISMATCH') || isCoded(error, 'DISK_CORRUPT'))
            await this.#deps.lookAgain(name.digest);
          throw error;
        }
      },
      AbortSignal.any([signal, this.#passes.signal]),
    );
    // Links of a push that joined the copy of another one did not ride.
    return done.links === links ? done.taken : undefined;
  }

  async #sendStored(target: CopyTarget, signal: AbortSignal): Promise<void> {
    const { name, id } = target;
    const handle = await this.#deps.store.open(name.digest);
    if (handle === undefined) throw new CodedError('BLOB_UNKNOWN', { detail: { digest: name.digest } });
    const stall = new AbortController();
    const { sizeBytes, attrs } = handle;
    const sent = sizeBytes <= CHUNK_BYTES ? undefined : watched(handle, id, stall);
    try {
      const body = sent?.chunks ?? (await wholeOf(handle));
      const either = sent === undefined ? signal : AbortSignal.any([signal, stall.signal]);
      await sendCopy(this.#deps.members, target, { attrs, body, sizeBytes }, either);
    } finally {
      sent?.end();
      await handle.close();
    }
  }

  /** An origin that owes nothing does nothing. */
  async #rest(isFailed: boolean, signal: AbortSignal): Promise<{ ms: number; deafMs: number }> {
    const { hints } = this.#deps;
    if (isFailed) return { ms: COPY_LOOK_MS, deafMs: COPY_LOOK_MS };
    if ((await hints.all()).length === 0) await hints.news.next(signal);
    return { ms: COPY_LOOK_MS, deafMs: 0 };
  }

  async #retry(signal: AbortSignal): Promise<void> {
    const due = (await this.#deps.hints.all()).filter((hint) => this.#isDue(hint));
    // Who took nothing once takes no other either: those that are owed to others have their turn.
    const silent = new Set<string>();
    const handBack = async (hint: Hint): Promise<void> => {
      if (silent.has(hint.target)) return;
      await this.#handBack(hint, silent).catch((error: unknown) =>
        logFailure(this.#deps.log, error, 'owed copy not made', { digest: hint.digest }),
      );
    };
    await fewAtOnce(due, BACKGROUND_COPIES, handBack, signal);
  }

  async #handBack(hint: Hint, silent: Set<string>): Promise<void> {
    const { hints, store, members, log } = this.#deps;
    const key = keyOf(hint.digest, hint.target);
    if (!(await store.has(hint.digest)) || members.find(hint.target) === undefined) {
      this.#backoff.delete(key);
      log.warn({ ...hint }, 'owed copy is void: the blob or the member is gone');
      return hints.done(hint);
    }
    try {
      await this.hold(hint.digest, async () => {
        await this.#copy(hint, hint.target, false, this.#passes.signal);
        hints.done(hint);
      });
      this.#backoff.delete(key);
      log.info({ digest: hint.digest, target: hint.target }, 'owed copy made');
    } catch (error) {
      if (outcomeOf(error) === 'silence') silent.add(hint.target);
      const failures = (this.#backoff.get(key)?.failures ?? 0) + 1;
      this.#backoff.set(key, {
        failures,
        untilMs: performance.now() + backoffMs(failures, COPY_LOOK_MS, MAX_COPY_RETRY_MS),
      });
      const { digest, target } = hint;
      logFailure(log, error, 'owed copy failed again', { digest, target }, 'debug');
    }
  }

  /** True if an owner has the blob, as a pushed one where it is pushed here: a cached copy may be evicted. */
  async #hasIt(name: CopyName, id: string, signal: AbortSignal, epoch: number): Promise<boolean> {
    const { members, store, upstreams } = this.#deps;
    const stat = await store.stat(name.digest);
    // To send a small one takes no longer than to ask.
    if (stat !== undefined && stat.sizeBytes <= CHUNK_BYTES) return false;
    if (members.isSuspect(id)) return false;
    const call = { ...to(ORIGIN_BLOBS.where, name), epoch, signal };
    const asked = members.json<Where>(id, call);
    const where = await asked.catch((error: unknown) => {
      // Its copy is being mended: a good one is welcome. Or it waits for this one, or for what it must know before it says no.
      if (!isCoded(error, 'DISK_CORRUPT') && !isCoded(error, 'RECORDS_PENDING')) throw error;
    });
    if (where?.state !== 'final') return false;
    if (stat?.attrs.class === 'cached') return true;
    const keeps = (upstream: string): boolean => upstreams.keepsPushes(upstream);
    return knowsPushes(where, stat?.attrs.provenance ?? [], keeps);
  }

  /** Whoever holds a blob makes its copies. */
  #isDue(hint: Hint): boolean {
    if (this.#isRunning(hint) || this.#held.has(hint.digest)) return false;
    return (this.#backoff.get(keyOf(hint.digest, hint.target))?.untilMs ?? 0) <= performance.now();
  }

  #isRunning(hint: Hint): boolean {
    return this.#copies.has(copyKey(hint, hint.target, this.#deps.members.epoch, false));
  }

  /** Deletes a blob that was kept for its owners, once all of them have it. */
  async #tidy(digest: Digest): Promise<void> {
    const { members, hints, store, log } = this.#deps;
    const look = {};
    // A push may begin, and even end, between any two of these steps.
    const stays = (): boolean => this.#looks.get(digest) !== look;
    try {
      if (this.#held.has(digest) || members.placement(digest).owners.includes(members.selfId)) return;
      this.#looks.set(digest, look);
      if (await hints.owes(digest)) return;
      if ((await store.deleteUnless(digest, stays)) > 0) log.debug({ digest }, 'handed to its owners');
    } catch (error) {
      logFailure(log, error, 'staged copy not removed', { digest });
    } finally {
      if (!stays()) this.#looks.delete(digest);
    }
  }
}

/** Key of a copy under way, with its upstream: a push to another upstream needs a copy of its own. */
function copyKey({ digest, upstream }: CopyName, target: string, epoch: number, isStandIn: boolean): string {
  return `${keyOf(digest, target)}\n${upstream}${isStandIn ? '\nstand-in' : ''}\n${epoch}`;
}

function keyOf(digest: Digest, target: string): string {
  return `${digest}\n${target}`;
}
