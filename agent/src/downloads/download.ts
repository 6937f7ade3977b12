import type { Bitfield } from '@sepia/shared/bitfield';
import type { Digest } from '@sepia/shared/digest';
import { CodedError, isCoded } from '@sepia/shared/errors';
import type { BlobHolders } from '@sepia/shared/http/core/source-order';
import type { BlobReader, ReadableBlob } from '@sepia/shared/http/readable-blob';
import type { BlobSource } from '@sepia/shared/http/remote-blob';
import { delay } from '@sepia/shared/lifecycle';
import type { Logger } from '@sepia/shared/log';
import type { Metainfo } from '@sepia/shared/metainfo/metainfo';
import { pieceLength } from '@sepia/shared/metainfo/tree';
import type { PartialBlob } from '@sepia/shared/store/partial-blob';
import type { Swarm } from '@sepia/shared/swarm/engine';

/** Where a piece came from, for the byte counters. */
export type PieceSource = 'peer' | 'origin' | 'upstream';

const WATCH_EVERY_MS = 500;
const FIND_AGAIN_MS = 200;
/** A piece within this many of the fetch's front comes by itself. */
const NEAR_PIECES = 4;
/** How long a reader waits before the origin is asked to fetch out of order, in ms. */
const URGE_AFTER_MS = 50;

/** How a download learns who has the blob and what its pieces hash to. */
export interface Guide {
  /** Who has it now; joins the swarm again. */
  find(signal: AbortSignal): Promise<Finding>;
  /** More metainfo, or undefined when there is no news within the guide's own wait. */
  poll(known: Metainfo, signal: AbortSignal): Promise<Metainfo | undefined>;
  /** Asks the fetching origin for a piece that it has not reached yet; ends when that one has it. */
  urge(sizeBytes: number, index: number, signal: AbortSignal): Promise<void>;
  /** One verified piece past the swarm, from whoever owns the blob. */
  refetch(metainfo: Metainfo, index: number, signal: AbortSignal): Promise<Uint8Array>;
  /** The origins as a source that needs no disk here, and who they are. */
  source(): BlobSource;
  holders(metainfo: Metainfo): BlobHolders;
}

export interface Finding {
  readonly metainfo: Metainfo;
  /** Hands peers and HTTP sources to the swarm. */
  readonly introduce: (swarm: Swarm) => void;
  readonly intervalMs: number;
}

interface DownloadDeps {
  readonly partial: PartialBlob;
  readonly joinSwarm: () => Swarm;
  readonly guide: Guide;
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly onBytes: (source: PieceSource, bytes: number) => void;
  /** Without progress for this long its readers fail, in ms. */
  readonly progressMs: number;
  /** Stores the verified blob. @throws `DISK_FULL`, `DIGEST_MISMATCH` */
  readonly commit: (partial: PartialBlob) => Promise<void>;
  /** The whole digest was right; the blob may be stored or not. */
  readonly onVerified: () => void;
  /** The origin dropped this attempt and began another; pieces of it may have been read. */
  readonly onDropped: (attempt: Metainfo) => void;
}

type State = 'running' | 'final' | 'failed';

/**
 * One blob on its way in: takes pieces from the swarm, wakes readers as each is verified, checks the whole digest
 * and stores it. `running → final | failed`; a new attempt of the origin also fails it (`STALE_ATTEMPT`), the
 * caller begins a new one.
 */
export class Download implements ReadableBlob {
  readonly provesWhole = true;
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly partial: PartialBlob;
  readonly #deps: DownloadDeps;
  readonly #swarm: Swarm;
  readonly #abort = new AbortController();
  readonly #waiters = new Map<number, Set<Waiter>>();
  readonly #finals = new Set<Waiter>();
  readonly #watch: NodeJS.Timeout;
  #state: State = 'running';
  #error: unknown;
  #progressMs: number;
  #finishing = false;
  #wanted = true;
  /** Resolves once it ended either way. */
  readonly ended: Promise<void>;
  #end = (): void => undefined;

  constructor(deps: DownloadDeps, first: Finding) {
    this.#deps = deps;
    this.partial = deps.partial;
    this.digest = deps.partial.digest;
    this.sizeBytes = deps.partial.sizeBytes;
    this.#progressMs = deps.nowMs();
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.#swarm = deps.joinSwarm();
    this.#swarm.onPiece((index, from) => this.#landed(index, from));
    this.#swarm.onWantPeers(() => {
      this.#wanted = true;
    });
    this.#watch = setInterval(() => this.#checkProgress(), WATCH_EVERY_MS);
    this.#watch.unref();
    first.introduce(this.#swarm);
    this.#run(this.#findLoop(first.intervalMs));
    if (deps.partial.metainfo.state === 'open') this.#run(this.#pollLoop());
    this.#maybeFinish();
  }

  get isFinal(): boolean {
    return this.#state === 'final';
  }

  get state(): State {
    return this.#state;
  }

  get have(): Bitfield {
    return this.partial.have;
  }

  get guide(): Guide {
    return this.#deps.guide;
  }

  get swarm(): Swarm {
    return this.#swarm;
  }

  get error(): unknown {
    return this.#error;
  }

  has(index: number): boolean {
    return this.have.has(index);
  }

  async leaves(index: number, signal: AbortSignal): Promise<Uint8Array> {
    if (this.#state === 'failed') throw this.#error;
    if (!this.have.has(index)) {
      const urging = this.#urge(index, signal);
      try {
        await this.#wait(this.#waitersOf(index), signal);
      } finally {
        urging.abort();
      }
    }
    return await this.partial.leaves(index);
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    if (this.#state === 'failed') throw this.#error;
    await this.partial.read(offset, into);
  }

  /** Damaged on disk between its arrival and this read. */
  async mend(index: number, signal: AbortSignal): Promise<Uint8Array> {
    this.#deps.log.error(
      { digest: this.digest, piece: index },
      'a piece is damaged on disk; fetching it again',
    );
    const bytes = await this.#deps.guide.refetch(this.partial.metainfo, index, signal);
    await this.partial.mendPiece(index, bytes);
    return bytes;
  }

  async whenFinal(signal: AbortSignal): Promise<void> {
    if (this.#state === 'final') return;
    if (this.#state === 'failed') throw this.#error;
    await this.#wait(this.#finals, signal);
  }

  openReader(pieceIndex: number): BlobReader {
    return this.#swarm.openReader(pieceIndex);
  }

  /** A piece was stored from elsewhere (back-to-source). */
  landed(index: number, source: PieceSource): void {
    this.#swarm.pieceLanded(index);
    this.#landed(index, source);
  }

  /** The upstream itself delivered everything and the whole digest was right: the metainfo is final. */
  sourceDone(): void {
    this.#swarm.metainfoChanged();
    this.#maybeFinish();
  }

  /** Gives up; readers get `error`. Idempotent. */
  fail(error: unknown): void {
    if (this.#state !== 'running') return;
    this.#state = 'failed';
    this.#error = error;
    this.#swarm.leave();
    this.#settle();
    for (const waiters of this.#waiters.values()) for (const waiter of waiters) waiter.reject(error);
    for (const waiter of this.#finals) waiter.reject(error);
    this.#waiters.clear();
    this.#finals.clear();
  }

  /** A piece far beyond what the origin has reached is fetched out of order there, if the upstream honours Range. */
  #urge(index: number, signal: AbortSignal): AbortController {
    const done = new AbortController();
    const { metainfo } = this.partial;
    if (metainfo.state !== 'open' || metainfo.knows(index) || index <= metainfo.knownPrefix + NEAR_PIECES)
      return done;
    const stop = AbortSignal.any([signal, done.signal, this.#abort.signal]);
    delay(URGE_AFTER_MS, stop)
      .then(() => this.#deps.guide.urge(this.sizeBytes, index, stop))
      .catch((error: unknown) => {
        if (!stop.aborted)
          this.#deps.log.debug({ digest: this.digest, piece: index, err: error }, 'nobody could be urged');
      });
    return done;
  }

  #landed(index: number, source: PieceSource): void {
    this.#progressMs = this.#deps.nowMs();
    this.#deps.onBytes(source, pieceLength(this.sizeBytes, index));
    const waiters = this.#waiters.get(index);
    this.#waiters.delete(index);
    if (waiters !== undefined) for (const waiter of waiters) waiter.resolve();
    this.#maybeFinish();
  }

  #maybeFinish(): void {
    if (this.#finishing || this.#state !== 'running' || !this.have.complete) return;
    if (this.partial.metainfo.state !== 'final') return;
    this.#finishing = true;
    this.#run(this.#finish());
  }

  async #finish(): Promise<void> {
    try {
      await this.#deps.commit(this.partial);
    } catch (error) {
      if (isCoded(error, 'DISK_FULL')) await this.#withoutStoring(error);
      else if (isCoded(error, 'DIGEST_MISMATCH')) throw this.#wrong(error);
      else throw error;
    }
    this.#deps.onVerified();
    this.#state = 'final';
    this.#swarm.setLeech(false);
    this.#settle();
    for (const waiter of this.#finals) waiter.resolve();
    this.#finals.clear();
  }

  /** No room for the last few bytes on disk: whoever reads it now gets it all the same. */
  async #withoutStoring(error: CodedError): Promise<void> {
    if (!(await this.partial.verifyWhole())) throw this.#wrong(error);
    this.#deps.log.warn({ digest: this.digest }, 'disk is full; the blob is served but not kept');
  }

  #wrong(cause: unknown): CodedError {
    this.#deps.log.error({ digest: this.digest }, 'whole digest is wrong; the blob is dropped');
    return new CodedError('UPSTREAM_LIES', {
      message: 'the content that the cluster has does not match its digest',
      detail: { digest: this.digest },
      cause,
    });
  }

  /** Joins again while pieces are lacking: new peers, or another leader. */
  async #findLoop(firstIntervalMs: number): Promise<void> {
    const { signal } = this.#abort;
    let intervalMs = firstIntervalMs;
    while (!this.have.complete) {
      this.#wanted = false;
      const dueMs = this.#deps.nowMs() + intervalMs;
      while (!this.#wanted && this.#deps.nowMs() < dueMs) await delay(FIND_AGAIN_MS, signal);
      await delay(FIND_AGAIN_MS, signal);
      try {
        const finding = await this.#deps.guide.find(signal);
        intervalMs = finding.intervalMs;
        await this.#learn(finding.metainfo);
        finding.introduce(this.#swarm);
      } catch (error) {
        signal.throwIfAborted();
        if (isCoded(error, 'STALE_ATTEMPT')) throw error;
        this.#deps.log.debug({ digest: this.digest, err: error }, 'nobody named peers');
      }
    }
  }

  async #pollLoop(): Promise<void> {
    const { signal } = this.#abort;
    while (this.partial.metainfo.state === 'open') {
      try {
        const news = await this.#deps.guide.poll(this.partial.metainfo, signal);
        if (news !== undefined) await this.#learn(news);
      } catch (error) {
        signal.throwIfAborted();
        if (isCoded(error, 'STALE_ATTEMPT') || (isCoded(error) && error.code === 'UPSTREAM_LIES'))
          throw error;
        await delay(FIND_AGAIN_MS, signal);
      }
    }
    this.#maybeFinish();
  }

  async #learn(news: Metainfo): Promise<void> {
    const before = this.partial.metainfo.etag;
    const attempt = this.partial.metainfo;
    if ((await this.partial.learn(news)) === 'replaced') {
      this.#deps.onDropped(attempt);
      throw new CodedError('STALE_ATTEMPT', {
        message: 'the origin began a new attempt',
        detail: { digest: this.digest },
      });
    }
    if (this.partial.metainfo.etag === before) return;
    this.#progressMs = this.#deps.nowMs();
    this.#swarm.metainfoChanged();
    this.#maybeFinish();
  }

  #checkProgress(): void {
    const silentMs = this.#deps.nowMs() - this.#progressMs;
    if (silentMs > this.#deps.progressMs)
      this.fail(
        new CodedError('NO_PEERS', {
          message: `nobody served a piece for ${Math.round(silentMs / 1000)} s`,
          detail: { digest: this.digest },
        }),
      );
  }

  #run(task: Promise<void>): void {
    task.catch((error: unknown) => {
      if (!this.#abort.signal.aborted) this.fail(error);
    });
  }

  #settle(): void {
    clearInterval(this.#watch);
    this.#abort.abort(new CodedError('STALE_ATTEMPT', { message: 'download has ended' }));
    this.#end();
  }

  #waitersOf(index: number): Set<Waiter> {
    let waiters = this.#waiters.get(index);
    if (waiters === undefined) {
      waiters = new Set();
      this.#waiters.set(index, waiters);
    }
    return waiters;
  }

  async #wait(waiters: Set<Waiter>, signal: AbortSignal): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      if (signal.aborted) return reject(signal.reason);
      const done = (settle: () => void): void => {
        signal.removeEventListener('abort', onAbort);
        waiters.delete(waiter);
        settle();
      };
      const waiter: Waiter = { resolve: () => done(resolve), reject: (error) => done(() => reject(error)) };
      const onAbort = (): void => waiter.reject(signal.reason);
      signal.addEventListener('abort', onAbort, { once: true });
      waiters.add(waiter);
    });
  }
}

interface Waiter {
  resolve(): void;
  reject(error: unknown): void;
}
