import type { Bitfield } from '@sepia/base/bitfield';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import type { BlobReader, ReadableBlob } from '@sepia/http/bodies/readable-blob';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceLength } from '@sepia/metainfo/tree';
import type { PartialBlob } from '@sepia/store/partial-blob';
import type { Swarm } from '@sepia/swarm/shell/engine';
import type { LentBytes } from '@sepia/swarm/swarm';
import type { VouchedPiece } from '../cluster/origin-client.ts';
import { Course, type CourseState, FIND_AGAIN_MS, isFar, worthOf } from './core/course.ts';
import type { PatienceLimits } from './core/patience.ts';
import type { Finding, Guide } from './guide-port.ts';
import { Readings } from './readings.ts';
import { Waiters } from './waiters.ts';

/** Where a piece came from, for the byte counters. */
export type PieceSource = 'peer' | 'origin' | 'upstream';

const WATCH_EVERY_MS = 500;
/** How long a reader waits before the origin is asked to fetch out of order, in ms. */
const URGE_AFTER_MS = 50;

interface DownloadDeps {
  readonly partial: PartialBlob;
  readonly joinSwarm: () => Swarm;
  readonly guide: Guide;
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly onBytes: (source: PieceSource, bytes: number) => void;
  /** How long its readers wait without progress before they fail. */
  readonly patience: PatienceLimits;
  /** False: only what readers cover is fetched, until {@link Download.wantAll}. */
  readonly wantAll: boolean;
  /** Stores the verified blob. @throws `DISK_FULL`, `DIGEST_MISMATCH` */
  readonly commit: (partial: PartialBlob) => Promise<void>;
  /** The whole digest was right; the blob may be stored or not. */
  readonly onVerified: () => void;
  /** The origin dropped this attempt and began another; pieces of it may have been read. */
  readonly onDropped: (attempt: Metainfo) => void;
}

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
  readonly #waiters = new Waiters<number | 'final'>();
  readonly #readings: Readings;
  /** Of the last answer: pieces that an origin vouched for make our own metainfo another. */
  #etag: string;
  readonly #watch: NodeJS.Timeout;
  readonly #course: Course;
  /** Resolves once it ended either way. */
  readonly ended: Promise<void>;
  #end = (): void => undefined;

  constructor(deps: DownloadDeps, first: Finding) {
    this.#deps = deps;
    this.partial = deps.partial;
    this.digest = deps.partial.digest;
    this.sizeBytes = deps.partial.sizeBytes;
    this.#etag = first.metainfo.etag;
    this.#course = new Course(deps.patience, deps.nowMs());
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.#swarm = deps.joinSwarm();
    this.#readings = new Readings(
      {
        isFar: (index) => this.isRunning && isFar(this.partial.metainfo, index, this.#readings.wantsAll),
        afterMs: deps.wantAll ? URGE_AFTER_MS : 0,
        ask: async (index, lastPiece, signal) =>
          await deps.guide.urge({ sizeBytes: this.sizeBytes, index, lastPiece }, signal),
        onPiece: async (index, piece) => await this.#vouched(index, piece),
        openReader: (index, last) => this.#swarm.openReader(index, last),
        onChange: () => this.#course.progress(deps.nowMs()),
        log: deps.log,
      },
      deps,
    );
    this.#swarm.onPiece((index, from) => this.#landed(index, from));
    this.#swarm.onWantPeers(() => this.#course.want());
    this.#watch = setInterval(() => this.#checkProgress(), WATCH_EVERY_MS);
    this.#watch.unref();
    first.introduce(this.#swarm);
    this.#run(this.#findLoop(first.intervalMs));
    if (deps.partial.metainfo.state === 'open') this.#run(this.#pollLoop());
    this.#maybeFinish();
  }

  get isFinal(): boolean {
    return this.state === 'final';
  }

  get isRunning(): boolean {
    return this.state === 'running';
  }

  get state(): CourseState {
    return this.#course.state;
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
    return this.#course.error;
  }

  has(index: number): boolean {
    return this.have.has(index);
  }

  async leaves(index: number, signal: AbortSignal): Promise<Uint8Array> {
    if (this.state === 'failed') throw this.error;
    if (!this.have.has(index)) await this.#waiters.wait(index, signal);
    return await this.partial.leaves(index);
  }

  async read(offset: number, into: Uint8Array): Promise<void> {
    if (this.state === 'failed') throw this.error;
    await this.partial.read(offset, into);
    this.#course.begun();
  }

  lend(index: number): LentBytes | undefined {
    this.#course.begun();
    return this.state === 'failed' ? undefined : this.#swarm.lend(index);
  }

  pieceHash(index: number): Uint8Array | undefined {
    return this.partial.metainfo.pieceHash(index);
  }

  /** Damaged on disk between its arrival and this read. */
  async mend(index: number, signal: AbortSignal): Promise<Uint8Array> {
    this.#deps.log.error({ digest: this.digest, piece: index }, 'a piece is damaged; fetching it again');
    const bytes = await this.#deps.guide.refetch(this.partial.metainfo, index, signal);
    await this.partial.mendPiece(index, bytes);
    return bytes;
  }

  async whenFinal(signal: AbortSignal): Promise<void> {
    if (this.state === 'final') return;
    if (this.state === 'failed') throw this.error;
    this.wantAll();
    await this.#waiters.wait('final', signal);
  }

  openReader(pieceIndex: number, lastByte: number): BlobReader {
    return this.#readings.open(pieceIndex, Math.floor(lastByte / PIECE_BYTES));
  }

  /** One more request that will read it; call what is returned once when it is over. */
  use(): () => void {
    return this.#readings.use();
  }

  /** From now on the whole blob is fetched, not only what readers cover. Idempotent. */
  wantAll(): void {
    if (!this.#readings.wantAll()) return;
    this.#deps.guide.wantAll();
    this.#swarm.wantAll();
    this.#course.want();
  }

  /** Nobody reads it and nothing is to be fetched: it may end, what came stays on disk. */
  get isLeft(): boolean {
    return this.#readings.left;
  }

  /** Ends what nobody reads any more. */
  end(): void {
    this.fail(new CodedError('NO_PEERS', { message: 'nobody reads it any more' }));
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
    if (!this.#course.fail(error)) return;
    this.#swarm.leave();
    this.#settle();
    this.#waiters.fail(error);
  }

  /** The fetching origin vouched for a piece: it is ours now, or the swarm's to bring. */
  async #vouched(index: number, { attempt, hash, bytes }: VouchedPiece): Promise<void> {
    const { partial } = this;
    const worth = worthOf(partial.metainfo, attempt);
    if (worth === 'other') this.#course.want();
    if (worth !== 'ours') return;
    partial.metainfo.addHash(index, hash);
    if (bytes === undefined) this.#swarm.metainfoChanged();
    else {
      await partial.writePiece(index, bytes);
      this.landed(index, 'origin');
    }
    this.#maybeFinish();
  }

  #landed(index: number, from: PieceSource | 'stranger'): void {
    if (from === 'stranger') this.partial.trustTree(false);
    this.#readings.update();
    this.#course.progress(this.#deps.nowMs());
    this.#deps.onBytes(from === 'stranger' ? 'peer' : from, pieceLength(this.sizeBytes, index));
    this.#waiters.wake(index);
    this.#maybeFinish();
  }

  #maybeFinish(): void {
    const isFinal = this.partial.metainfo.state === 'final';
    if (this.#course.mayFinish(this.have.complete, isFinal)) this.#run(this.#finish());
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
    if (!this.#course.finish()) return;
    this.#swarm.setLeech(false);
    this.#settle();
    this.#waiters.wake('final');
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
      this.#course.asked();
      await this.#readings.untilBusy(signal);
      this.#course.pause(intervalMs, this.#deps.nowMs());
      while (!this.#course.isFindDue(this.#deps.nowMs())) await delay(FIND_AGAIN_MS, signal);
      await delay(FIND_AGAIN_MS, signal);
      try {
        const finding = await this.#deps.guide.find(signal);
        intervalMs = finding.intervalMs;
        await this.#learn(finding.metainfo, finding.metainfo.etag);
        finding.introduce(this.#swarm);
      } catch (error) {
        throwIfBug(error);
        signal.throwIfAborted();
        if (isCoded(error, 'STALE_ATTEMPT')) throw error;
        this.#deps.log.debug({ digest: this.digest, err: error }, 'nobody named peers');
      }
    }
  }

  async #pollLoop(): Promise<void> {
    const { signal } = this.#abort;
    while (this.partial.metainfo.state === 'open') {
      await this.#readings.untilBusy(signal);
      try {
        const news = await this.#deps.guide.poll(this.partial.metainfo, this.#etag, signal);
        if (news !== undefined) await this.#learn(news.metainfo, news.etag);
      } catch (error) {
        throwIfBug(error);
        signal.throwIfAborted();
        if (isCoded(error, 'STALE_ATTEMPT') || (isCoded(error) && error.code === 'UPSTREAM_LIES'))
          throw error;
        await delay(FIND_AGAIN_MS, signal);
      }
    }
    this.#maybeFinish();
  }

  async #learn(news: Metainfo, etag: string): Promise<void> {
    this.#etag = etag;
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
    this.#course.progress(this.#deps.nowMs());
    this.#swarm.metainfoChanged();
    this.#readings.update();
    this.#maybeFinish();
  }

  #checkProgress(): void {
    const nowMs = this.#deps.nowMs();
    const step = this.#course.next(this.#readings, this.partial.metainfo.state === 'open', nowMs);
    if (step === 'look') this.#run(this.#lookForProgress());
    if (step === 'give-up') this.fail(this.#silence(nowMs));
    if (step === 'end') this.end();
  }

  /** A slow upstream may need longer for a piece than anybody's patience: while it sends bytes, that is progress. */
  async #lookForProgress(): Promise<void> {
    const fetched = await this.#deps.guide.fetchedBytes(this.#abort.signal);
    this.#course.looked(fetched, this.#deps.nowMs());
  }

  #silence(nowMs: number): CodedError {
    const message = `nobody served a piece for ${Math.round(this.#course.silentMs(nowMs) / 1000)} s`;
    return new CodedError('NO_PEERS', { message, detail: { digest: this.digest } });
  }

  #run(task: Promise<void>): void {
    task.catch((error: unknown) => {
      if (!this.#abort.signal.aborted) this.fail(error);
    });
  }

  #settle(): void {
    this.#readings.stop();
    clearInterval(this.#watch);
    this.#abort.abort(new CodedError('STALE_ATTEMPT', { message: 'download has ended' }));
    this.#end();
  }
}
