import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { isBug, logFailure } from '@sepia/base/failure';
import { pause } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { H_CLASS } from '@sepia/cluster/api/headers';
import type { BlobStore } from '@sepia/store/blob-store';
import { type Members, repositoryQuery } from '../cluster/members.ts';
import type { Hint, Hints } from './hints.ts';

type CopyName = Pick<Hint, 'digest' | 'upstream' | 'repository'>;

/** Copies under way at once beside those that a push waits for. */
const BACKGROUND_COPIES = 2;
const RETRY_EVERY_MS = 2_000;
const MAX_RETRY_MS = 60_000;
const HINTS_PER_ROUND = 1_000;
/** Until the receiving member answers after the last byte, in ms: it syncs first. */
const COPY_HEADERS_MS = 60_000;
/** A copy whose receiver takes no byte for this long is cut, in ms. */
const COPY_STALL_MS = 5_000;
const CHUNK_BYTES = 256 * 1024;

interface ReplicatorDeps {
  readonly members: Members;
  readonly store: BlobStore;
  readonly hints: Hints;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/**
 * Brings pushed blobs to their owners. A push waits for W durable copies (stand-ins count for owners that are
 * away); what is missing then is owed, in the records, and made good later, also after a restart.
 */
export class Replicator {
  readonly #deps: ReplicatorDeps;
  readonly #stragglerMs: number;
  readonly #stopped = new AbortController();
  readonly #backoff = new Map<string, { failures: number; untilMs: number }>();
  /** Copies under way, by digest and target: they are not begun twice. */
  readonly #running = new Set<string>();
  #loop: Promise<void> | undefined;

  constructor(deps: ReplicatorDeps, options: { readonly stragglerMs: number }) {
    this.#deps = deps;
    this.#stragglerMs = options.stragglerMs;
  }

  start(): void {
    this.#loop = this.#retryForever().catch((error: unknown) => {
      if (!this.#stopped.signal.aborted)
        logFailure(this.#deps.log, error, 'replication stopped', {}, 'error');
    });
  }

  async stop(): Promise<void> {
    this.#stopped.abort(new CodedError('DRAINING'));
    await this.#loop;
  }

  /**
   * Copies a blob that is durable in this origin's store to its owners; resolves when W members have it.
   * @throws `QUORUM_LOST`
   */
  async place(name: CopyName): Promise<void> {
    const { members, hints } = this.#deps;
    const { owners, standIns, writeQuorum } = members.placement(name.digest);
    const others = owners.filter((id) => id !== members.selfId);
    const selfCounts = owners.includes(members.selfId) || standIns.includes(members.selfId);
    const isOwner = owners.includes(members.selfId);
    for (const target of others) await hints.add({ ...name, target });
    const spare = standIns.filter((id) => id !== members.selfId);
    await new Promise<void>((resolve, reject) => {
      let acks = isOwner ? 1 : 0;
      let running = 0;
      let cut: NodeJS.Timeout | undefined;
      let lastError: unknown;
      let selfUsed = isOwner;
      const late = new AbortController();
      const judge = (): void => {
        if (acks >= writeQuorum) {
          cut ??= setTimeout(
            () => late.abort(new CodedError('TIMEOUT', { message: 'copy is far behind the others' })),
            this.#stragglerMs,
          );
          resolve();
        }
        if (running > 0) return;
        clearTimeout(cut);
        if (acks < writeQuorum)
          reject(
            new CodedError('QUORUM_LOST', {
              message: 'too few origins took a copy',
              detail: { digest: name.digest, copies: acks, needed: writeQuorum },
              cause: lastError,
            }),
          );
      };
      const copy = (id: string, isStandIn: boolean): void => {
        running += 1;
        this.#copy(name, id, isStandIn, AbortSignal.any([late.signal, this.#stopped.signal]))
          .then(
            async () => {
              acks += 1;
              if (!isStandIn) await hints.done({ digest: name.digest, target: id });
            },
            (error: unknown) => {
              if (isBug(error)) reject(error);
              lastError = error;
              this.#deps.log.warn(
                { digest: name.digest, target: id, reason: String(error) },
                'copy failed; it is made later',
              );
              if (acks >= writeQuorum || late.signal.aborted) return;
              if (!selfUsed && selfCounts) {
                selfUsed = true;
                acks += 1;
              } else if (spare.length > 0) copy(spare.shift()!, true);
            },
          )
          .catch((error: unknown) => logFailure(this.#deps.log, error, 'copy was not noted', {}, 'error'))
          .finally(() => {
            running -= 1;
            judge();
            if (running === 0) void this.#tidy(name.digest);
          });
      };
      for (const id of others) copy(id, false);
      judge();
    });
  }

  /** Makes one copy now; it is owed until it is made. @throws `CONFLICT` while it is under way, `PEER_HTTP` and the like */
  async copyTo(name: CopyName, id: string): Promise<void> {
    const { hints } = this.#deps;
    await hints.add({ ...name, target: id });
    await this.#copy(name, id, false, this.#stopped.signal);
    await hints.done({ digest: name.digest, target: id });
  }

  /** A stand-in got a blob for owners that were away: it owes them a copy each. */
  async owe(name: CopyName): Promise<void> {
    const { members, hints } = this.#deps;
    for (const target of members.placement(name.digest).owners)
      if (target !== members.selfId) await hints.add({ ...name, target });
  }

  /** How many copies are owed, for metrics and status. */
  async owed(): Promise<number> {
    return (await this.#deps.hints.all(HINTS_PER_ROUND)).length;
  }

  async #copy(name: CopyName, id: string, isStandIn: boolean, signal: AbortSignal): Promise<void> {
    const key = keyOf(name.digest, id);
    if (this.#running.has(key))
      throw new CodedError('CONFLICT', { message: `a copy for ${id} is under way` });
    this.#running.add(key);
    try {
      await this.#send(name, id, isStandIn, signal);
    } finally {
      this.#running.delete(key);
    }
  }

  async #send(name: CopyName, id: string, isStandIn: boolean, signal: AbortSignal): Promise<void> {
    const { members, store } = this.#deps;
    if (members.isSuspect(id)) throw new CodedError('PEER_HTTP', { message: `${id} did not answer lately` });
    const handle = await store.open(name.digest);
    if (handle === undefined) throw new CodedError('BLOB_UNKNOWN', { detail: { digest: name.digest } });
    const stall = new AbortController();
    let movedAtMs = this.#deps.nowMs();
    const watch = setInterval(() => {
      if (this.#deps.nowMs() - movedAtMs > COPY_STALL_MS)
        stall.abort(new CodedError('TIMEOUT', { message: `${id} takes no bytes` }));
    }, 500);
    const { sizeBytes, attrs } = handle;
    // The client pulls a chunk only after the socket took the one before (each is larger than its buffer), so two
    // buffers in turn are enough; fresh ones would outlive many collections.
    const buffers = [Buffer.allocUnsafe(CHUNK_BYTES), Buffer.allocUnsafe(CHUNK_BYTES)];
    async function* chunks(): AsyncGenerator<Uint8Array> {
      for (let at = 0, turn = 0; at < sizeBytes; at += CHUNK_BYTES, turn = 1 - turn) {
        yield await handle!.read(at, buffers[turn]!);
        movedAtMs = Date.now();
      }
      // From here the receiver syncs: its answer has a deadline of its own.
      movedAtMs = Number.POSITIVE_INFINITY;
    }
    try {
      await members.json(id, {
        method: 'PUT',
        path: `/v1/blobs/${name.digest}?${repositoryQuery(name)}&copy=1${isStandIn ? '&hint=1' : ''}`,
        headers: {
          [H_CLASS]: attrs.class,
          'content-length': String(sizeBytes),
          ...(attrs.mediaType === undefined ? {} : { 'sepia-media-type': attrs.mediaType }),
        },
        ...({ body: sizeBytes === 0 ? new Uint8Array(0) : chunks() } as object),
        headersTimeoutMs: COPY_HEADERS_MS,
        signal: AbortSignal.any([signal, stall.signal]),
      });
    } finally {
      clearInterval(watch);
      await handle.close();
    }
  }

  async #retryForever(): Promise<void> {
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      await pause(RETRY_EVERY_MS, signal);
      if (signal.aborted) return;
      const due = (await this.#deps.hints.all(HINTS_PER_ROUND)).filter((hint) => this.#isDue(hint));
      const next = due[Symbol.iterator]();
      await Promise.all(Array.from({ length: BACKGROUND_COPIES }, async () => await this.#work(next)));
    }
  }

  async #work(next: IterableIterator<Hint>): Promise<void> {
    for (const hint of next) {
      if (this.#stopped.signal.aborted) return;
      await this.#handBack(hint).catch((error: unknown) =>
        logFailure(this.#deps.log, error, 'owed copy not made', { digest: hint.digest }),
      );
    }
  }

  async #handBack(hint: Hint): Promise<void> {
    const { hints, store, members, log } = this.#deps;
    const key = keyOf(hint.digest, hint.target);
    if (!(await store.has(hint.digest)) || members.find(hint.target) === undefined) {
      log.warn({ ...hint }, 'owed copy is void: the blob or the member is gone');
      return await hints.done(hint);
    }
    try {
      if (!(await this.#hasIt(hint))) await this.#copy(hint, hint.target, false, this.#stopped.signal);
      this.#backoff.delete(key);
      await hints.done(hint);
      log.info({ digest: hint.digest, target: hint.target }, 'owed copy made');
      await this.#tidy(hint.digest);
    } catch (error) {
      const failures = (this.#backoff.get(key)?.failures ?? 0) + 1;
      this.#backoff.set(key, {
        failures,
        untilMs: this.#deps.nowMs() + Math.min(MAX_RETRY_MS, RETRY_EVERY_MS * 2 ** Math.min(8, failures - 1)),
      });
      const { digest, target } = hint;
      logFailure(log, error, 'owed copy failed again', { digest, target }, 'debug');
    }
  }

  async #hasIt(hint: Hint): Promise<boolean> {
    const path = `/v1/blobs/${hint.digest}/where?${repositoryQuery(hint)}`;
    const { state } = await this.#deps.members.json<{ state: string }>(hint.target, { method: 'GET', path });
    return state === 'final';
  }

  #isDue(hint: Hint): boolean {
    const key = keyOf(hint.digest, hint.target);
    return !this.#running.has(key) && (this.#backoff.get(key)?.untilMs ?? 0) <= this.#deps.nowMs();
  }

  /** What this origin kept for others goes when they all have it. */
  async #tidy(digest: Digest): Promise<void> {
    const { members, hints, store, log } = this.#deps;
    try {
      if (members.placement(digest).owners.includes(members.selfId) || (await hints.owes(digest))) return;
      if (await store.delete(digest)) log.debug({ digest }, 'handed to its owners');
    } catch (error) {
      logFailure(log, error, 'staged copy not removed', { digest });
    }
  }
}

function keyOf(digest: Digest, target: string): string {
  return `${digest}\n${target}`;
}
