import { CodedError, takesNoWrites } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import type { PartialBlob } from '@sepia/store/partial-blob';
import { FETCH_TICK_MS } from '../deadlines/upstreams.ts';
import { FetchPace } from './core/fetch-pace.ts';
import { type FetchJob, FetchPlan } from './core/fetch-plan.ts';
import { FetchSize } from './core/fetch-size.ts';
import { doubtfulSize, failedWith, liesError, silentError, unwantedError, wrongSize } from './failures.ts';
import { FetchCourse } from './fetch-course.ts';
import { type ReceiveParts, runFetchJob, runUnsized } from './fetch-job.ts';
import {
  beginAnew,
  cachedAttrs,
  dropOwn,
  type FetchDeps,
  type FetchOptions,
  type FetchView,
  knownPieces,
  letGo,
  mergeSame,
  missingBytes,
  openOwn,
  writeHashed,
} from './fetch-parts.ts';
import { FetchReaders, type OpenFetch } from './fetch-reader.ts';
import { firstSize, isSizeTold, Sizing } from './fetch-sizing.ts';
import { held, type PieceTail } from './piece-stream.ts';
import { WaitedFor } from './waited-for.ts';

/** Attempts whose whole digest may be wrong before the upstream counts as lying. */
const MAX_ATTEMPTS = 2;

/**
 * One blob from the upstream: `sizing → running → final`, `failed` from the first two. Pieces are told to the swarm as they
 * land; a cut connection is resumed. `FetchPlan` decides what is asked for, `FetchPace` when, `FetchSize` by which size.
 */
export class Fetch {
  readonly name: BlobName;
  readonly #deps: FetchDeps;
  readonly #options: FetchOptions;
  readonly #pace: FetchPace;
  readonly #size: FetchSize;
  readonly #course = new FetchCourse();
  #connections = new AbortController();
  #lastError: CodedError | undefined;
  #partial: PartialBlob | undefined;
  /** Ends the news of pieces that can be read. */
  #deaf: () => void = () => undefined;
  #plan: FetchPlan | undefined;
  #tail: PieceTail | undefined;
  readonly #waitedFor = new WaitedFor();
  #attempts = 1;
  readonly #readers = new FetchReaders({
    plan: () => this.#plan,
    moved: () => this.#pump(),
    left: () => this.#pace.readerLeft(this.#deps.nowMs()),
  });
  #nextId = 1;
  #ticker: NodeJS.Timeout | undefined;
  #finishing = false;
  readonly #sizing = new Sizing();
  #wantAll: boolean;

  constructor(deps: FetchDeps, name: BlobName, options: FetchOptions) {
    this.#deps = deps;
    this.name = name;
    this.#options = options;
    this.#wantAll = options.wantAll;
    this.#pace = new FetchPace(options, deps.nowMs());
    this.#size = new FetchSize({ isTold: isSizeTold(name, options), doubtBelowBytes: PIECE_BYTES });
  }

  get state(): FetchView['state'] {
    return this.#course.state;
  }

  get error(): CodedError | undefined {
    return this.#course.error;
  }

  get isSizeTold(): boolean {
    return !this.#size.isStated;
  }

  /** Undefined until the size is known. */
  get metainfo(): Metainfo | undefined {
    return this.#partial?.metainfo;
  }

  get have(): FetchView['have'] {
    return this.#partial?.have;
  }

  get sizeBytes(): number | undefined {
    return this.#partial?.sizeBytes;
  }

  get partial(): PartialBlob | undefined {
    return this.#partial;
  }

  get upstreamConnections(): number {
    return this.#plan?.connections ?? (this.#sizing.isRunning ? 1 : 0);
  }

  /** Begins; never rejects: see `state` and `error`. */
  start(): void {
    this.#ticker = setInterval(() => this.#tick(), FETCH_TICK_MS);
    void this.#begin().catch((error: unknown) => this.#fail(error));
  }

  /** From now on the whole blob is wanted, not only what readers ask for. */
  fetchAll(): void {
    if (this.#wantAll) return;
    this.#wantAll = true;
    this.#plan?.setWantAll();
    this.#pump();
  }

  /** Resolves when the size is known, or at once `final` (then the blob is in the store). @throws what the fetch failed with */
  readonly whenSized = this.#course.whenSized;
  readonly whenFinal = this.#course.whenFinal;
  /** Resolves at the next change of anything. */
  readonly changed = this.#course.changed;

  /** A verified piece of the swarm; `bytes` must not change before it resolves. */
  async pieceFromSwarm(piece: number, bytes: Uint8Array, leaves?: Uint8Array): Promise<void> {
    if (this.#partial === undefined || this.state !== 'running') throw new CodedError('STALE_ATTEMPT');
    await this.#partial.writePiece(piece, bytes, leaves).catch((error: unknown) => {
      if (takesNoWrites(error)) this.#fail(error);
      throw error;
    });
    this.#landed(piece, true);
  }

  /** Another leader's hashes of the same attempt; with `hasPeers` agents hold their pieces. */
  learn(known: Metainfo, hasPeers: boolean): void {
    if (this.state !== 'running' || !mergeSame(this.#partial!.metainfo, known)) return;
    if (hasPeers) this.#plan!.avoid(knownPieces(known));
    this.#deps.events.started(this, hasPeers);
    this.#course.tell();
  }

  /** The blob as a reader sees it that reads no further than `lastPiece`. Close it. Only once sized. */
  open(lastPiece?: number): OpenFetch {
    if (this.#partial === undefined) throw this.#course.withoutBytes();
    return this.#readers.open(this, this.#partial.retain(), lastPiece);
  }

  /** Once it runs: it does so for readers alone, and they have gone. */
  get isLeft(): boolean {
    return !this.#wantAll && this.#readers.count === 0 && this.#pace.isLeft(this.#deps.nowMs());
  }

  /** Ends it; what landed stays on disk. */
  stop(cause = new CodedError('DRAINING')): void {
    this.#fail(cause);
  }

  async #begin(): Promise<void> {
    const { adopt, hasPeers } = this.#options;
    await this.#sizing.run(async () => {
      // Another fetch may have brought it while whoever asks looked elsewhere.
      if (await this.#deps.store.has(this.name.digest)) return this.#end();
      const sizeBytes = await firstSize(this.#deps, this.name, this.#options, this.#course.over);
      if (sizeBytes !== undefined) await this.#openPartial(sizeBytes, adopt);
    });
    if (adopt === undefined || this.#course.isOver) return this.#pump();
    if (hasPeers === true) this.#plan!.avoid(knownPieces(this.#partial!.metainfo));
    this.#sized(true);
  }

  async #openPartial(sizeBytes: number, adopt?: Metainfo): Promise<void> {
    const partial = await openOwn(this.#deps.store, this.name, sizeBytes, adopt);
    if (this.#course.isOver) {
      await partial.release();
      throw this.error;
    }
    this.#partial = partial;
    this.#deaf = partial.onReadable(() => this.#course.tell());
    if (this.#wantAll) this.#deps.room.require(missingBytes(partial));
    this.#plan = new FetchPlan(sizeBytes, { wantAll: this.#wantAll, have: partial.have.clone() });
  }

  /** `sizing → running` */
  #sized(leech: boolean): void {
    if (!this.#course.run()) return;
    this.#deps.events.started(this, leech);
    this.#course.tell();
    this.#pump();
  }

  #pump(): void {
    if (this.#course.isOver || this.#finishing) return;
    if (!this.#pace.mayTry(this.#deps.nowMs())) return;
    const plan = this.#plan;
    if (plan === undefined) return void this.#pumpUnsized();
    if (plan.complete) {
      this.#sized(false); // Empty, or all of it was on disk.
      return void this.#finish();
    }
    const next = () => (this.state === 'sizing' ? plan.first(this.#options.firstPiece) : plan.next());
    for (let job = next(); job !== undefined; job = next()) {
      const [id, one] = [this.#nextId++, job];
      plan.opened(id, one);
      void this.#run(async (...way) => await this.#fetchJob(id, one, ...way)).finally(() => {
        plan.closed(id);
        this.#pump();
      });
    }
  }

  #pumpUnsized(): void {
    if (this.#sizing.isRunning) return;
    const ask = async () => await this.#run(async (...way) => await this.#fetchUnsized(...way));
    void this.#sizing.run(ask).finally(() => this.#pump());
  }

  async #run(part: (signal: AbortSignal, onBytes: (bytes: number) => void) => Promise<void>): Promise<void> {
    const signal = AbortSignal.any([this.#course.over, this.#connections.signal]);
    let came = false;
    const onBytes = (bytes: number): void => {
      came = true;
      this.#deps.onUpstreamBytes(bytes);
      this.#pace.progress(bytes, this.#deps.nowMs());
    };
    try {
      await part(signal, onBytes);
    } catch (error) {
      const failure = failedWith(error, this.name, this.#deps.log);
      if (!signal.aborted) this.#connectionFailed(failure, came);
    }
  }

  #jobParts(id: number, onBytes: (bytes: number) => void, job?: FetchJob) {
    return {
      turn: async () => await this.#waitedFor.turn(job, this.#course.over),
      sizeBytes: this.#partial!.sizeBytes,
      plan: this.#plan!,
      id,
      onBytes,
      onPiece: async (piece: number, bytes: Uint8Array) => await this.#pieceArrived(piece, bytes),
      onTail: (tail: PieceTail) => {
        this.#tail = tail;
      },
      onAnswer: (sizeBytes: number | undefined) => this.#answered(sizeBytes),
    };
  }

  async #fetchJob(id: number, job: FetchJob, signal: AbortSignal, onBytes: (bytes: number) => void) {
    const parts = { ...this.#jobParts(id, onBytes, job), ...this.#deps, name: this.name, signal };
    await this.#waitedFor.during(job, async () => await runFetchJob(parts, job, this.#tail));
  }

  #answered(found: number | undefined): void {
    const known = this.#partial!.sizeBytes;
    const verdict = this.#size.answered(known, this.state !== 'sizing', found);
    if (verdict === 'goes') return void this.#sized(false);
    if (verdict === 'begin-anew') void this.#alone(async () => await this.#resize(found));
    const error = wrongSize(this.name, known, found);
    if (verdict === 'fails') this.#fail(error);
    throw error;
  }

  /** The size that a manifest told was not the blob's; nobody was shown anything by it. */
  async #resize(found: number | undefined): Promise<void> {
    const partial = this.#partial!;
    this.#connections.abort(new CodedError('STALE_ATTEMPT'));
    this.#connections = new AbortController();
    this.#partial = this.#plan = this.#tail = undefined;
    await dropOwn(partial);
    if (found !== undefined) await this.#openPartial(found);
  }

  async #pieceArrived(piece: number, bytes: Uint8Array): Promise<void> {
    if (this.#tail?.piece === piece) this.#tail = undefined;
    if (await writeHashed(this.#partial!, piece, bytes)) return this.#landed(piece, false);
    this.#pace.conflict();
    throw liesError(this.name, piece);
  }

  #landed(piece: number, fromSwarm: boolean): void {
    const isNew = this.#plan!.landed(piece);
    if (isNew) this.#pace.landed(this.#deps.nowMs(), fromSwarm);
    if (isNew && !fromSwarm) this.#deps.events.landed(this, piece);
    this.#course.tell();
    if (this.#plan!.complete) void this.#finish();
  }

  /** Nothing told the size before: the answer does, or nothing is shown before the whole blob is here. */
  async #fetchUnsized(signal: AbortSignal, onBytes: (bytes: number) => void): Promise<void> {
    const onSize = async (sizeBytes: number): Promise<ReceiveParts | undefined> => {
      await this.#openPartial(sizeBytes);
      const plan = this.#plan!;
      const usable = this.#wantAll && !plan.have.has(0) && !plan.complete;
      const id = this.#nextId++;
      if (usable) plan.opened(id, { start: 0, end: plan.pieceCount });
      this.#sized(false);
      return usable ? this.#jobParts(id, onBytes) : undefined;
    };
    const parts = { ...this.#deps, name: this.name, signal, asSent: this.#attempts > 1, onSize };
    const outcome = await runUnsized({ ...parts, onBytes });
    if (outcome === 'stored') this.#end();
    if (outcome !== 'wrong') return;
    if (++this.#attempts > MAX_ATTEMPTS) this.#fail(liesError(this.name));
    throw liesError(this.name);
  }

  async #finish(): Promise<void> {
    if (this.state !== 'running') return;
    await this.#alone(async () => {
      const isWhole = await this.#partial!.verifyWhole();
      if (this.#course.isOver) return;
      if (!isWhole) return await this.#newAttempt();
      await this.#partial!.commit(cachedAttrs(this.name));
      this.#end();
    });
  }

  /** Runs one step that no connection may be opened beside. */
  async #alone(step: () => Promise<void>): Promise<void> {
    if (this.#finishing) return;
    this.#finishing = true;
    try {
      await step();
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#finishing = false;
      this.#pump();
    }
  }

  async #newAttempt(): Promise<void> {
    this.#deps.log.warn({ ...this.name, attempt: this.#attempts }, 'upstream sent wrong content');
    this.#deps.events.cameWrong(this);
    this.#connections.abort(new CodedError('STALE_ATTEMPT'));
    this.#connections = new AbortController();
    if (this.#attempts++ >= MAX_ATTEMPTS || this.isSizeTold) {
      await this.#partial!.drop();
      throw liesError(this.name);
    }
    this.#tail = undefined;
    await beginAnew(this.#partial!);
    if (this.#course.isOver) return;
    this.#plan!.reset();
    this.#pace.newAttempt(this.#deps.nowMs());
    this.#deps.events.restarted(this);
    this.#course.tell();
  }

  #connectionFailed(error: CodedError, came: boolean): void {
    // Where every piece is here the whole digest says whether they are the blob, not what came behind them.
    if (this.#course.isOver || this.#plan?.complete === true) return;
    this.#lastError = error;
    this.#deps.log.debug({ ...this.name, code: error.code, reason: error.message }, 'connection failed');
    if (error.code === 'RANGE_INVALID') this.#plan?.setRanges(false);
    const facts = { avoiding: this.#plan?.avoiding === true, came, ...held(this.#partial, this.#tail) };
    const next = this.#pace.failed(error, facts, this.#deps.nowMs());
    if (next.type === 'fail' || (this.isSizeTold && error.code === 'UPSTREAM_LIES')) this.#fail(error);
    else if (next.type === 'retry') setTimeout(() => this.#pump(), next.inMs).unref();
    else if (this.state === 'running') void this.#alone(async () => await this.#newAttempt());
  }

  #tick(): void {
    const plan = this.#plan;
    if (this.#finishing) return;
    const hungry = this.state === 'sizing' || (plan?.connections ?? 0) > 0 || plan?.hungry === true;
    const isFirst = this.state === 'sizing' && this.upstreamConnections > 0;
    const thinking = isFirst || (plan?.thinking === true && !this.#pace.hasFailed);
    const held = plan?.avoiding === true ? this.#deps.events.peerPieces(this) : undefined;
    if (held !== undefined) plan?.peersHold(held);
    const facts = { hungry, readers: this.#readers.count, avoiding: plan?.avoiding ?? false, thinking };
    const verdict = this.#pace.tick(facts, this.#deps.nowMs());
    if (verdict === 'stop-avoiding') plan?.stopAvoiding();
    if (verdict === 'unwanted') this.#fail(unwantedError());
    if (verdict === 'late') this.#fail(this.#lastError ?? silentError(this.name, this.#options, thinking));
    this.#pump();
  }

  #fail(cause: unknown): void {
    if (this.#course.isOver) return;
    const error = failedWith(cause, this.name, this.#deps.log);
    const isDoubtful = this.isSizeTold && error.code === 'UPSTREAM_LIES';
    this.#end(isDoubtful ? doubtfulSize(this.name, this.sizeBytes, error) : error);
  }

  /** `final`, or `failed` with an error. Others are told once, and the partial is let go once. */
  #end(error?: CodedError): void {
    if (!this.#course.end(error)) return;
    clearInterval(this.#ticker);
    this.#deaf();
    this.#deps.events.ended(this);
    if (this.#partial !== undefined) letGo(this.#partial, error, this.#deps.log);
  }
}
