import { randomBytes } from 'node:crypto';
import { Bitfield } from '@sepia/shared/bitfield';
import type { Digest } from '@sepia/shared/digest';
import { CodedError, isCoded } from '@sepia/shared/errors';
import type { ReadableBlob } from '@sepia/shared/http/serve-blob';
import type { Logger } from '@sepia/shared/log';
import { Metainfo } from '@sepia/shared/metainfo/metainfo';
import { PIECE_BYTES, pieceHash, pieceLength } from '@sepia/shared/metainfo/tree';
import type { RepositoryName } from '@sepia/shared/names/repository';
import type { UpstreamBlob, UpstreamClient } from '@sepia/shared/registry/client/upstream-client';
import type { BlobStore } from '@sepia/shared/store/blob-store';
import type { PartialBlob } from '@sepia/shared/store/partial-blob';
import { type FetchJob, FetchPlan } from '../core/fetch-plan.ts';
import { errorWeight, retryDelayMs } from '../core/fetch-retry.ts';
import { News } from './news.ts';

/** A blob under a repository of an upstream. */
export interface BlobName {
  readonly upstream: string;
  readonly repository: RepositoryName;
  readonly digest: Digest;
}

/** What a fetch tells the swarm of its blob. */
export interface FetchEvents {
  /** The size is known: the swarm may be joined. `leech`: pieces are wanted from it. */
  started(fetch: Fetch, leech: boolean): void;
  landed(fetch: Fetch, piece: number): void;
  /** A new attempt dropped everything. */
  restarted(fetch: Fetch): void;
  /** Committed, or failed; the fetch is over. */
  ended(fetch: Fetch): void;
}

export interface FetchDeps {
  readonly store: BlobStore;
  readonly client: UpstreamClient;
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly events: FetchEvents;
  /** Counts bytes that came from the upstream. */
  readonly onUpstreamBytes: (bytes: number) => void;
}

export interface FetchOptions {
  /** Bytes of the blob as a manifest told, if known. */
  readonly sizeHint: number | undefined;
  /** False: only what readers ask for. */
  readonly wantAll: boolean;
  /** An open attempt of another leader to go on with. */
  readonly adopt?: Metainfo;
  /** Longest time without a byte, in ms. */
  readonly progressMs: number;
  /** A fetch for readers alone ends when there were none for this long, in ms. */
  readonly lingerMs: number;
}

/** Attempts whose whole digest may be wrong before the upstream counts as lying. */
const MAX_ATTEMPTS = 2;
/** Time that the swarm gets for pieces that agents hold before the upstream is asked, in ms. */
const SWARM_GRACE_MS = 2_000;
const TICK_MS = 250;

type FetchState = 'sizing' | 'running' | 'final' | 'failed';

/**
 * One blob on its way from the upstream: `sizing → running → final`, `failed` from the first two. Pieces are
 * hashed, written and told to the swarm as they land; a cut connection is resumed by Range.
 */
export class Fetch {
  readonly name: BlobName;
  readonly #deps: FetchDeps;
  readonly #options: FetchOptions;
  readonly #news = new News();
  readonly #stopped = new AbortController();
  #connections = new AbortController();
  #state: FetchState = 'sizing';
  #error: CodedError | undefined;
  #partial: PartialBlob | undefined;
  #plan: FetchPlan | undefined;
  /** Bytes of a piece whose connection was cut. */
  #tail: { piece: number; bytes: Uint8Array } | undefined;
  #attempts = 1;
  #conflicts = 0;
  #failures = 0;
  #retryAtMs = 0;
  #lastError: CodedError | undefined;
  #progressAtMs: number;
  #swarmAtMs: number;
  #busyAtMs: number;
  #readers = 0;
  #nextId = 1;
  #ticker: NodeJS.Timeout | undefined;
  #finishing = false;
  #unsized = false;
  #wantAll: boolean;

  constructor(deps: FetchDeps, name: BlobName, options: FetchOptions) {
    this.#deps = deps;
    this.name = name;
    this.#options = options;
    this.#wantAll = options.wantAll;
    this.#progressAtMs = deps.nowMs();
    this.#swarmAtMs = this.#progressAtMs;
    this.#busyAtMs = this.#progressAtMs;
  }

  get state(): FetchState {
    return this.#state;
  }

  get error(): CodedError | undefined {
    return this.#error;
  }

  /** Undefined until the size is known. */
  get metainfo(): Metainfo | undefined {
    return this.#partial?.metainfo;
  }

  get have(): Bitfield | undefined {
    return this.#partial?.have;
  }

  get sizeBytes(): number | undefined {
    return this.#partial?.sizeBytes;
  }

  get partial(): PartialBlob | undefined {
    return this.#partial;
  }

  get upstreamConnections(): number {
    return this.#plan?.connections ?? (this.#state === 'sizing' ? 1 : 0);
  }

  /** Begins; never rejects: see `state` and `error`. */
  start(): void {
    this.#ticker = setInterval(() => this.#tick(), TICK_MS);
    void this.#begin().catch((error: unknown) => this.#fail(error));
  }

  /** From now on the whole blob is wanted, not only what readers ask for. */
  fetchAll(): void {
    this.#wantAll = true;
    this.#plan?.setWantAll();
    this.#pump();
  }

  /** Resolves when the size is known, or at once `final` (then the blob is in the store). @throws what the fetch failed with */
  async whenSized(signal: AbortSignal): Promise<void> {
    while (this.#state === 'sizing') await this.#news.next(signal);
    if (this.#error !== undefined) throw this.#error;
  }

  async whenFinal(signal: AbortSignal): Promise<void> {
    while (this.#state !== 'final' && this.#state !== 'failed') await this.#news.next(signal);
    if (this.#error !== undefined) throw this.#error;
  }

  /** Resolves at the next change of anything. */
  async changed(signal: AbortSignal): Promise<void> {
    await this.#news.next(signal);
  }

  /** A verified piece of the swarm; `bytes` must not change before it resolves. */
  async pieceFromSwarm(piece: number, bytes: Uint8Array): Promise<void> {
    if (this.#partial === undefined || this.#state !== 'running') throw new CodedError('STALE_ATTEMPT');
    await this.#partial.writePiece(piece, bytes);
    this.#swarmAtMs = this.#deps.nowMs();
    this.#landed(piece);
  }

  /** The blob as a reader sees it that reads no further than `lastPiece`. Close it. Only once sized. */
  open(lastPiece?: number): ReadableBlob & { close(): Promise<void> } {
    const partial = this.#partial;
    if (partial === undefined) throw new TypeError('fetch without size');
    partial.retain();
    this.#readers += 1;
    const { attempt } = partial.metainfo;
    let closed = false;
    const check = (): void => {
      if (this.#error !== undefined) throw this.#error;
      if (this.#state !== 'final' && partial.metainfo.attempt !== attempt)
        throw new CodedError('STALE_ATTEMPT', { detail: { digest: this.name.digest } });
    };
    const isFinal = (): boolean => this.#state === 'final';
    return {
      digest: this.name.digest,
      sizeBytes: partial.sizeBytes,
      get isFinal() {
        return isFinal();
      },
      readPiece: async (index, signal) => {
        check();
        while (!partial.have.has(index)) {
          await this.#news.next(signal);
          check();
        }
        return await partial.readPiece(index);
      },
      whenFinal: async (signal) => {
        if (!this.#wantAll) this.fetchAll();
        await this.whenFinal(signal);
        check();
      },
      openReader: (piece) => {
        const id = this.#nextId++;
        const move = (to: number): void => {
          this.#plan?.moveReader(id, to, lastPiece);
          this.#pump();
        };
        move(piece);
        return { move, close: () => this.#plan?.closeReader(id) };
      },
      close: async () => {
        if (closed) return;
        closed = true;
        this.#readers -= 1;
        this.#busyAtMs = this.#deps.nowMs();
        await partial.release();
      },
    };
  }

  /** Ends it; what landed stays on disk. */
  async stop(): Promise<void> {
    this.#fail(new CodedError('DRAINING'));
  }

  async #begin(): Promise<void> {
    const { adopt, sizeHint } = this.#options;
    if (adopt !== undefined) {
      await this.#openPartial(adopt.sizeBytes, adopt);
      const plan = this.#plan!;
      const held = new Bitfield(plan.pieceCount);
      for (let piece = 0; piece < plan.pieceCount; piece++)
        if (this.#partial!.metainfo.knows(piece)) held.add(piece);
      plan.avoid(held);
      this.#sized(true);
      return;
    }
    if (sizeHint !== undefined) await this.#openPartial(sizeHint);
    else if (!this.#wantAll) {
      const { sizeBytes } = await this.#deps.client.headBlob(this.name, this.#stopped.signal);
      if (sizeBytes !== undefined) await this.#openPartial(sizeBytes);
    }
    this.#pump();
  }

  async #openPartial(sizeBytes: number, adopt?: Metainfo): Promise<void> {
    const { store } = this.#deps;
    const partial = await store.openPartial(
      this.name.digest,
      sizeBytes,
      adopt === undefined ? {} : { metainfo: Metainfo.decode(adopt.encode()) },
    );
    if (this.#state === 'failed') return await partial.release();
    if (adopt !== undefined) await partial.learn(adopt);
    this.#partial = partial;
    this.#plan = new FetchPlan(sizeBytes, { wantAll: this.#wantAll, have: partial.have.clone() });
  }

  /** `sizing → running` */
  #sized(leech: boolean): void {
    if (this.#state !== 'sizing') return;
    this.#state = 'running';
    this.#deps.events.started(this, leech);
    this.#news.tell();
    this.#pump();
    if (this.#partial!.have.complete) void this.#finish();
  }

  #pump(): void {
    if (this.#state === 'final' || this.#state === 'failed' || this.#finishing) return;
    if (this.#deps.nowMs() < this.#retryAtMs) return;
    const plan = this.#plan;
    if (plan === undefined) {
      if (this.#unsized) return;
      this.#unsized = true;
      void this.#run(async (signal) => await this.#fetchUnsized(signal)).finally(() => {
        this.#unsized = false;
      });
      return;
    }
    if (plan.complete) return void this.#finish();
    for (let job = this.#nextJob(plan); job !== undefined; job = this.#nextJob(plan)) {
      const id = this.#nextId++;
      const one = job;
      plan.opened(id, one);
      void this.#run(async (signal) => await this.#fetchJob(id, one, signal)).finally(() => {
        plan.closed(id);
        this.#pump();
      });
    }
  }

  /** Before the first answer the size is only believed: one connection asks, also where no reader is yet. */
  #nextJob(plan: FetchPlan): FetchJob | undefined {
    if (this.#state !== 'sizing') return plan.next();
    if (plan.connections > 0) return undefined;
    return plan.next() ?? { start: 0, end: Math.min(1, plan.pieceCount), urgent: true };
  }

  async #run(part: (signal: AbortSignal) => Promise<void>): Promise<void> {
    const signal = AbortSignal.any([this.#stopped.signal, this.#connections.signal]);
    try {
      await part(signal);
    } catch (error) {
      if (signal.aborted) return;
      this.#connectionFailed(isCoded(error) ? error : new CodedError('INTERNAL', { cause: error }));
    }
  }

  async #fetchJob(id: number, job: FetchJob, signal: AbortSignal): Promise<void> {
    const plan = this.#plan!;
    const partial = this.#partial!;
    const tail = this.#tail?.piece === job.start ? this.#tail.bytes : new Uint8Array(0);
    const start = job.start * PIECE_BYTES + tail.length;
    const toEnd = job.end >= plan.pieceCount;
    const ranged = start > 0 || !toEnd;
    const range = ranged ? { start, ...(toEnd ? {} : { end: job.end * PIECE_BYTES - 1 }) } : undefined;
    const blob = await this.#deps.client.getBlob(
      { repository: this.name.repository, digest: this.name.digest, range },
      signal,
    );
    try {
      if (blob.sizeBytes !== undefined && blob.sizeBytes !== partial.sizeBytes)
        throw this.#wrongSize(partial.sizeBytes, blob.sizeBytes);
      if (ranged) plan.setRanges(blob.status === 'partial');
      this.#sized(false);
      if (blob.status === 'whole' && ranged) {
        // The upstream ignores Range: one connection brings all, from byte 0.
        if (plan.connections > 1) return;
        plan.opened(id, { start: 0, end: plan.pieceCount });
        await this.#receive(id, blob, 0, new Uint8Array(0));
      } else {
        await this.#receive(id, blob, job.start, tail);
      }
    } finally {
      blob.body.destroy();
    }
  }

  async #receive(id: number, blob: UpstreamBlob, firstPiece: number, head: Uint8Array): Promise<void> {
    const { sizeBytes } = this.#partial!;
    const plan = this.#plan!;
    const buffer = Buffer.allocUnsafe(PIECE_BYTES);
    buffer.set(head);
    let piece = firstPiece;
    let fill = head.length;
    let wanted = true;
    try {
      for await (const chunk of blob.body) {
        this.#gotBytes(chunk.length);
        for (let at = 0; at < chunk.length; ) {
          if (piece >= plan.pieceCount) throw this.#wrongSize(sizeBytes, undefined);
          const length = pieceLength(sizeBytes, piece);
          const take = Math.min(length - fill, chunk.length - at);
          buffer.set(chunk.subarray(at, at + take), fill);
          fill += take;
          at += take;
          if (fill < length) continue;
          await this.#pieceArrived(piece, buffer.subarray(0, length));
          fill = 0;
          piece += 1;
          wanted = plan.delivered(id, piece - 1);
          // The last bytes of an answer are read out, so that its connection is used again.
          if (!wanted && piece < plan.pieceCount) return;
        }
      }
      if (wanted && piece < plan.pieceCount && blob.sizeBytes === undefined) {
        throw new CodedError('BACKEND_DOWN', {
          message: 'upstream ended the body early',
          detail: { digest: this.name.digest },
        });
      }
    } finally {
      if (fill > 0 && plan.ranges !== 'no' && piece < plan.pieceCount)
        this.#tail = { piece, bytes: Uint8Array.prototype.slice.call(buffer, 0, fill) };
    }
  }

  async #pieceArrived(piece: number, bytes: Uint8Array): Promise<void> {
    const partial = this.#partial!;
    const { metainfo } = partial;
    const hash = pieceHash(bytes);
    if (this.#tail?.piece === piece) this.#tail = undefined;
    if (metainfo.knows(piece)) {
      if (!metainfo.matches(piece, hash)) {
        this.#conflicts += 1;
        throw new CodedError('UPSTREAM_LIES', {
          message: 'upstream sent other bytes than before',
          detail: { digest: this.name.digest, piece },
        });
      }
    } else {
      metainfo.addHash(piece, hash);
    }
    await partial.writePiece(piece, bytes);
    this.#landed(piece);
  }

  #landed(piece: number): void {
    this.#progressAtMs = this.#deps.nowMs();
    this.#failures = 0;
    const fresh = this.#plan!.landed(piece);
    if (fresh) this.#deps.events.landed(this, piece);
    this.#news.tell();
    if (this.#plan!.complete) void this.#finish();
  }

  /** An upstream that tells no length and no manifest to ask: nothing is shown before the whole blob is here. */
  async #fetchUnsized(signal: AbortSignal): Promise<void> {
    const { client, store } = this.#deps;
    const { digest, repository } = this.name;
    const blob = await client.getBlob({ repository, digest }, signal);
    if (blob.sizeBytes !== undefined) {
      await this.#openPartial(blob.sizeBytes);
      if (this.#plan === undefined || this.#state === 'failed') return blob.body.destroy();
      if (this.#plan.have.has(0) || !this.#wantAll) {
        blob.body.destroy();
        return this.#sized(false);
      }
      const id = this.#nextId++;
      this.#plan.opened(id, { start: 0, end: this.#plan.pieceCount });
      this.#sized(false);
      try {
        return await this.#receive(id, blob, 0, new Uint8Array(0));
      } finally {
        this.#plan.closed(id);
        blob.body.destroy();
        queueMicrotask(() => this.#pump());
      }
    }
    const upload = await store.createUpload(`fetch-${randomBytes(12).toString('hex')}`);
    try {
      for await (const chunk of blob.body) {
        this.#gotBytes(chunk.length);
        await upload.append(chunk);
      }
      await upload.commit(digest, this.#attrs());
    } catch (error) {
      await upload.drop();
      if (!isCoded(error, 'DIGEST_MISMATCH')) throw error;
      if (this.#attempts >= MAX_ATTEMPTS) return this.#fail(this.#lies());
      this.#attempts += 1;
      throw this.#lies();
    }
    this.#end('final');
  }

  #gotBytes(bytes: number): void {
    this.#deps.onUpstreamBytes(bytes);
    this.#progressAtMs = this.#deps.nowMs();
  }

  async #finish(): Promise<void> {
    if (this.#finishing || this.#state !== 'running') return;
    this.#finishing = true;
    try {
      const partial = this.#partial!;
      if (await partial.verifyWhole()) {
        await partial.commit(this.#attrs());
        this.#end('final');
      } else {
        await this.#newAttempt();
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#finishing = false;
      this.#pump();
    }
  }

  async #newAttempt(): Promise<void> {
    const { digest } = this.name;
    this.#deps.log.warn(
      { digest, upstream: this.name.upstream, attempt: this.#attempts },
      'upstream sent content that does not match its digest',
    );
    this.#connections.abort(new CodedError('STALE_ATTEMPT'));
    this.#connections = new AbortController();
    if (this.#attempts >= MAX_ATTEMPTS) {
      await this.#partial!.drop();
      throw this.#lies();
    }
    this.#attempts += 1;
    this.#conflicts = 0;
    this.#tail = undefined;
    await this.#partial!.replaceMetainfo(
      Metainfo.open(digest, this.#partial!.sizeBytes, randomBytes(16).toString('hex')),
    );
    this.#plan!.reset();
    this.#progressAtMs = this.#deps.nowMs();
    this.#deps.events.restarted(this);
    this.#news.tell();
  }

  #connectionFailed(error: CodedError): void {
    if (this.#state === 'final' || this.#state === 'failed') return;
    this.#lastError = error;
    this.#deps.log.debug(
      { digest: this.name.digest, code: error.code, reason: error.message },
      'upstream connection failed',
    );
    if (error.code === 'DISK_FULL' || error.code === 'INTERNAL') return this.#fail(error);
    if (error.code === 'RANGE_INVALID') this.#plan?.setRanges(false);
    if (this.#conflicts >= 2 && this.#state === 'running' && !this.#finishing) {
      this.#finishing = true;
      void this.#newAttempt()
        .catch((cause: unknown) => this.#fail(cause))
        .finally(() => {
          this.#finishing = false;
          this.#pump();
        });
      return;
    }
    if (errorWeight(error.code) === 'certain' && !(this.#plan?.avoiding ?? false)) return this.#fail(error);
    const waitMs = retryDelayMs(this.#failures, error.detail['retryAfterSeconds']);
    this.#failures += 1;
    const nowMs = this.#deps.nowMs();
    if (nowMs + waitMs > this.#progressAtMs + this.#options.progressMs) {
      if (error.code === 'UPSTREAM_LIMITED') return this.#fail(error);
    }
    this.#retryAtMs = nowMs + waitMs;
    if (waitMs < TICK_MS) setTimeout(() => this.#pump(), waitMs).unref();
  }

  #tick(): void {
    const nowMs = this.#deps.nowMs();
    const plan = this.#plan;
    if (plan?.avoiding === true && nowMs - this.#swarmAtMs > SWARM_GRACE_MS) plan.stopAvoiding();
    const hungry =
      this.#state === 'sizing' || plan?.hungry === true || (plan?.connections ?? 0) > 0 || this.#finishing;
    if (!hungry) {
      this.#progressAtMs = nowMs;
      if (this.#readers > 0) this.#busyAtMs = nowMs;
      if (nowMs - this.#busyAtMs > this.#options.lingerMs)
        return this.#fail(new CodedError('NO_PEERS', { message: 'nobody reads this blob any more' }));
    } else if (nowMs - this.#progressAtMs > this.#options.progressMs && !this.#finishing) {
      return this.#fail(
        this.#lastError ??
          new CodedError('BACKEND_DOWN', {
            message: `no byte from the upstream within ${this.#options.progressMs / 1000} s`,
            detail: { upstream: this.name.upstream },
          }),
      );
    }
    this.#pump();
  }

  #wrongSize(expected: number, found: number | undefined): CodedError {
    return new CodedError('UPSTREAM_LIES', {
      message: 'upstream has another size for this blob than its manifest says',
      detail: { digest: this.name.digest, expected, found: found ?? 'more' },
    });
  }

  #lies(): CodedError {
    return new CodedError('UPSTREAM_LIES', {
      detail: { digest: this.name.digest, upstream: this.name.upstream },
    });
  }

  #attrs(): {
    class: 'cached';
    provenance: { upstream: string; repository: string }[];
    writtenBack: boolean;
  } {
    return {
      class: 'cached',
      provenance: [{ upstream: this.name.upstream, repository: this.name.repository }],
      writtenBack: true,
    };
  }

  #fail(cause: unknown): void {
    if (this.#state === 'final' || this.#state === 'failed') return;
    this.#error = isCoded(cause) ? cause : new CodedError('INTERNAL', { cause });
    this.#end('failed');
  }

  #end(state: 'final' | 'failed'): void {
    this.#state = state;
    clearInterval(this.#ticker);
    this.#stopped.abort(this.#error ?? new CodedError('STALE_ATTEMPT'));
    this.#news.tell();
    this.#deps.events.ended(this);
    const partial = this.#partial;
    // The swarm and readers that were told just now may still take it over.
    setImmediate(
      () =>
        void partial
          ?.release()
          .catch((error: unknown) => this.#deps.log.warn({ err: error }, 'partial not released')),
    );
  }
}
