import type { Bitfield } from '@sepia/base/bitfield';
import { boundedMs } from '@sepia/base/bounded-ms';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded, takesNoWrites } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import type { BlobReader, ReadableBlob } from '@sepia/http/bodies/readable-blob';
import { FINAL_ATTEMPT, type Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceLength } from '@sepia/metainfo/tree';
import type { PartialBlob } from '@sepia/store/partial-blob';
import type { LentBytes, Swarm } from '@sepia/swarm/swarm';
import type { VouchedPiece } from '../cluster/origin-client.ts';
import {
  FIND_AGAIN_MS,
  MAX_FIND_MS,
  QUIET_MS,
  RANGES_IDLE_MS,
  URGE_AFTER_MS,
  WATCH_EVERY_MS,
} from '../deadlines.ts';
import { silentMsOf } from '../source/core/silence.ts';
import { Patience } from './core/patience.ts';
import type { DownloadDeps, PieceSource } from './download-deps.ts';
import type { Finding, Guide } from './guide-port.ts';
import { Readings } from './readings.ts';
import { Waiters } from './waiters.ts';

/** A piece within this many of the fetch's front comes by itself. */
const NEAR_PIECES = 4;

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
  readonly #waiters = new Waiters<number | 'final'>();
  /** Of its attempt: the partial has another one once that was dropped. */
  readonly #metainfo: Metainfo;
  readonly #readings: Readings;
  /** Of the last answer: pieces that an origin vouched for make our own metainfo another. */
  #etag: string;
  readonly #watch: NodeJS.Timeout;
  readonly #deaf: () => void;
  #state: State = 'running';
  #error: unknown;
  readonly #patience: Patience;
  #finishing = false;
  #asking = false;
  #wanted = true;
  readonly #ending = Promise.withResolvers<void>();
  /** Resolves once it ended either way. */
  readonly ended = this.#ending.promise;

  constructor(deps: DownloadDeps, first: Finding) {
    this.#deps = deps;
    this.partial = deps.partial;
    this.#metainfo = deps.partial.metainfo;
    this.digest = deps.partial.digest;
    this.sizeBytes = deps.partial.sizeBytes;
    this.#etag = first.metainfo.etag;
    this.#patience = new Patience(deps.patience, deps.nowMs());
    this.#swarm = deps.joinSwarm();
    this.#readings = new Readings(
      {
        isFar: (index) => this.#isFar(index),
        afterMs: deps.wantAll ? URGE_AFTER_MS : 0,
        ask: async (index, lastPiece, signal) =>
          await deps.guide.urge({ sizeBytes: this.sizeBytes, index, lastPiece }, signal),
        onPiece: async (index, piece) => await this.#vouched(index, piece),
        openReader: (index, last) => this.#swarm.openReader(index, last),
        onChange: () => this.#patience.progress(deps.nowMs()),
        log: deps.log,
      },
      deps,
    );
    this.#deaf = deps.partial.onReadable((index) => this.#waiters.wake(index));
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
    return await this.#whenReadable(index, signal, async () => await this.partial.leaves(index));
  }

  async read(offset: number, into: Uint8Array, signal: AbortSignal): Promise<void> {
    const index = Math.floor(offset / PIECE_BYTES);
    await this.#whenReadable(index, signal, async () => await this.partial.read(offset, into));
    this.#patience.begun();
  }

  lend(index: number): LentBytes | undefined {
    this.#patience.begun();
    return this.#state === 'failed' ? undefined : this.#swarm.lend(index);
  }

  pieceHash(index: number): Uint8Array | undefined {
    return this.#metainfo.pieceHash(index);
  }

  /** Damaged on disk between its arrival and this read. */
  async mend(index: number, signal: AbortSignal): Promise<Uint8Array> {
    this.#deps.log.error({ digest: this.digest, piece: index }, 'a piece is damaged; fetching it again');
    this.#check();
    const bytes = await this.#deps.guide.refetch(this.#metainfo, index, signal);
    this.#check();
    await this.partial.mendPiece(index, bytes);
    return bytes;
  }

  async whenFinal(signal: AbortSignal): Promise<void> {
    if (this.#state === 'final') return;
    if (this.#state === 'failed') throw this.#error;
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
    this.#wanted = true;
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
    if (this.#state !== 'running') return;
    this.#state = 'failed';
    this.#error = error;
    this.#swarm.leave();
    this.#settle();
    this.#waiters.fail(error);
  }

  /** `read` begins while the piece is there: one that could not be written is waited for once more. */
  async #whenReadable<T>(index: number, signal: AbortSignal, read: () => Promise<T>): Promise<T> {
    for (;;) {
      this.#check();
      if (this.partial.isReadable(index)) return await read();
      await this.#waiters.wait(index, signal);
    }
  }

  /** Who has bytes of one attempt gets none of another. @throws what it failed with, `STALE_ATTEMPT` */
  #check(): void {
    if (this.#state === 'failed') throw this.#error;
    if (this.partial.metainfo !== this.#metainfo)
      throw new CodedError('STALE_ATTEMPT', { detail: { digest: this.digest } });
  }

  /** A piece that only comes if it is asked for, out of order where the upstream honours Range. */
  #isFar(index: number): boolean {
    const { metainfo } = this.partial;
    if (this.#state !== 'running' || metainfo.state !== 'open' || metainfo.knows(index)) return false;
    return !this.#readings.wantsAll || index > metainfo.knownPrefix + NEAR_PIECES;
  }

  /** The fetching origin vouched for a piece: it is ours now, or the swarm's to bring. */
  async #vouched(index: number, { attempt, hash, bytes }: VouchedPiece): Promise<void> {
    const { partial } = this;
    if (partial.metainfo.state !== 'open') return;
    if (attempt !== partial.metainfo.attempt && attempt !== FINAL_ATTEMPT) {
      this.#wanted = true;
      return;
    }
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
    this.#patience.progress(this.#deps.nowMs());
    this.#deps.onBytes(from === 'stranger' ? 'peer' : from, pieceLength(this.sizeBytes, index));
    this.#waiters.wake(index);
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
      if (takesNoWrites(error)) await this.#withoutStoring(error);
      else if (isCoded(error, 'DIGEST_MISMATCH')) throw this.#wrong(error);
      else throw error;
    }
    this.#deps.onVerified();
    this.#state = 'final';
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
    const message = 'the content that the cluster has does not match its digest';
    return new CodedError('UPSTREAM_LIES', { message, detail: { digest: this.digest }, cause });
  }

  /** Joins again while pieces are lacking: new peers, or another leader. */
  async #findLoop(firstIntervalMs: number): Promise<void> {
    const { signal } = this.#abort;
    let intervalMs = firstIntervalMs;
    while (!this.have.complete) {
      this.#wanted = false;
      await this.#readings.untilBusy(signal);
      const dueMs = this.#deps.nowMs() + boundedMs(intervalMs, FIND_AGAIN_MS, MAX_FIND_MS);
      while (!this.#wanted && this.#deps.nowMs() < dueMs) await delay(FIND_AGAIN_MS, signal);
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
        if (silentMsOf(error) > 0) this.#deps.onSilence(error);
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
        // Perhaps another does, perhaps nobody: who looks for peers finds out.
        this.#wanted ||= this.#patience.silentMs(this.#deps.nowMs()) > QUIET_MS;
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
    this.#patience.progress(this.#deps.nowMs());
    this.#swarm.metainfoChanged();
    this.#readings.update();
    this.#maybeFinish();
  }

  #checkProgress(): void {
    const nowMs = this.#deps.nowMs();
    if (this.#readings.idle) {
      if (this.isLeft && this.#patience.silentMs(nowMs) > RANGES_IDLE_MS) this.end();
      return;
    }
    this.#patience.arrived(this.#swarm.arrived(), this.#swarm.stats().links.length > 0, nowMs);
    if (this.#asking) return;
    const step = this.#patience.next(nowMs, this.partial.metainfo.state === 'open');
    if (step === 'look') this.#run(this.#lookForProgress());
    if (step === 'give-up') this.fail(this.#silence(nowMs));
  }

  /** A slow upstream may need longer for a piece than anybody's patience: while it sends bytes, that is progress. */
  async #lookForProgress(): Promise<void> {
    this.#asking = true;
    const fetched = await this.#deps.guide.fetchedBytes(this.#abort.signal);
    this.#asking = false;
    this.#patience.fetched(fetched, this.#deps.nowMs());
  }

  #silence(nowMs: number): CodedError {
    const message = `nobody served a piece for ${Math.round(this.#patience.silentMs(nowMs) / 1000)} s`;
    return new CodedError('NO_PEERS', { message, detail: { digest: this.digest } });
  }

  #run(task: Promise<void>): void {
    task.catch((error: unknown) => {
      if (!this.#abort.signal.aborted) this.fail(error);
    });
  }

  #settle(): void {
    this.#deaf();
    this.#readings.stop();
    clearInterval(this.#watch);
    this.#abort.abort(new CodedError('STALE_ATTEMPT', { message: 'download has ended' }));
    this.#ending.resolve();
  }
}
