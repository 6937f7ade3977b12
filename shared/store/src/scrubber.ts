import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { backoffMs } from '@sepia/base/async/backoff';
import { type Digest, isDigest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { ended, logFailure, throwIfBug } from '@sepia/base/failure';
import { pause } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { notePass } from '@sepia/base/metrics';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import type { BlobHandle } from './blob-handle.ts';
import type { BlobStore } from './blob-store.ts';
import { nextPass, ScrubPace, type ScrubPlace } from './core/scrub-plan.ts';
import { KEEP_PLACE_MS, MAX_SCRUB_RETRY_MS, SCRUB_FAILED_MS, SCRUB_RETRY_MS } from './deadlines.ts';
import { type FilePort, readWhole, replaceWhole } from './files/file-port.ts';
import type { DamagedPieces } from './rot/damaged-pieces.ts';

/** Pieces of a blob that are looked at with it open, which keeps it from eviction. */
const PIECES_OPEN = 16;
/** So many blobs in a row that cannot be read are a disk that does not answer, and no matter of theirs. */
const MOST_UNREAD = 100;
/** So many of them are kept in mind in a pass: beyond that only the metric of passes and the log go on. */
const MOST_KEPT = 10_000;
/** Blobs that a log line each is written for; the warning tells how many there are. */
const MOST_TOLD = 10;

interface ScrubberDeps {
  readonly store: Pick<BlobStore, 'has' | 'open' | 'list'>;
  readonly files: FilePort;
  /** `DIR/v1`: the place of the pass is kept there. */
  readonly dir: string;
  readonly log: Logger;
  /** What nobody could mend yet; also noted by those who read. */
  readonly damaged: DamagedPieces;
  /** Wall clock: passes are days apart. */
  readonly nowMs: () => number;
  /** Gets a right copy of a piece and writes it over the damaged one. Rejects while nobody has one: nothing changes then. */
  readonly mend: (digest: Digest, piece: number, signal: AbortSignal) => Promise<unknown>;
  /** A file that is no blob: its size is wrong. */
  readonly onUnreadable?: (digest: Digest) => Promise<void>;
  /** Blobs that must be here, looked through at the end of a pass. */
  readonly expected?: () => AsyncIterable<Digest>;
  readonly onBytes?: (bytes: number) => void;
}

export interface ScrubberOptions {
  /** Bytes that are read and checked a second; 0: no scrub. */
  readonly rateBytesPerSec: number;
  /** From the beginning of a pass over all blobs to that of the next, in ms. */
  readonly everyMs: number;
  /** What could not be mended is tried again after this, in ms; then after twice as long, up to `maxRetryMs`. */
  readonly retryMs?: number;
  readonly maxRetryMs?: number;
  /** A pass that broke off goes on after this, in ms. */
  readonly failedMs?: number;
}

/**
 * Reads every stored blob again, slowly, and checks every leaf: rot is found while other copies are right. A damaged
 * piece is written over with a right one (`BlobFiles.mendPiece`); one that nobody has stays as it is, is named, and is
 * tried again, whoever found it and also where nothing is looked for.
 */
export class Scrubber {
  readonly #deps: ScrubberDeps;
  readonly #options: Required<ScrubberOptions>;
  readonly #pace: ScrubPace;
  readonly #stopped = new AbortController();
  /** Ends a rest: something was noted that is to be tried again, or it stops. */
  #woken = new AbortController();
  #place: ScrubPlace | undefined;
  #keptMs = Number.NEGATIVE_INFINITY;
  /** Blobs that could not be read for another reason than damage when they were last looked at. */
  #unread = new Set<Digest>();
  /** Those of the pass under way, which may have broken off and gone on. */
  #unreadInPass = new Set<Digest>();
  #failures = 0;
  #retryAtMs = Number.POSITIVE_INFINITY;
  #running: Promise<void> | undefined;

  constructor(deps: ScrubberDeps, options: ScrubberOptions) {
    this.#deps = deps;
    const usual = { retryMs: SCRUB_RETRY_MS, maxRetryMs: MAX_SCRUB_RETRY_MS, failedMs: SCRUB_FAILED_MS };
    this.#options = { ...usual, ...options };
    this.#pace = new ScrubPace(options.rateBytesPerSec);
    deps.damaged.onNote(() => this.#noted());
  }

  start(): void {
    this.#running ??= this.#options.rateBytesPerSec > 0 ? this.#run() : this.#onlyRetry();
  }

  /** Ends it and keeps its place. Idempotent. */
  async stop(): Promise<void> {
    this.#stopped.abort();
    this.#woken.abort();
    await ended(this.#running);
  }

  get damaged(): { readonly pieces: number; readonly digests: readonly Digest[] } {
    const { size, digests } = this.#deps.damaged;
    return { pieces: size, digests };
  }

  /** When the pass under way began, and whether it is over; undefined before the first. */
  get pass(): { readonly beganMs: number; readonly isOver: boolean } | undefined {
    return this.#place && { beganMs: this.#place.beganMs, isOver: this.#place.isOver === true };
  }

  /** In words, for `/readyz`; empty if all that was found is mended. */
  get warnings(): string[] {
    const [first] = this.#unread;
    const { warnings } = this.#deps.damaged;
    if (first === undefined) return warnings;
    const least = this.#unread.size < MOST_KEPT ? '' : 'at least ';
    const words = `scrub: ${least}${this.#unread.size} blobs cannot be read, as ${first}; the log says why, the next pass looks at them again`;
    return [...warnings, words];
  }

  get #path(): string {
    return join(this.#deps.dir, 'scrub');
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopped;
    this.#place = await this.#read();
    while (!signal.aborted) {
      try {
        const next = nextPass(this.#place, this.#deps.nowMs(), this.#options.everyMs);
        if ('waitMs' in next) await this.#rest(next.waitMs);
        else await this.#passOver(next.place);
      } catch (error) {
        logFailure(this.#deps.log, error, 'stored blobs were not looked through', {}, 'error');
        notePass('scrub', { isFailed: true, tookMs: this.#tookMs() });
        await this.#rest(this.#options.failedMs);
      }
    }
    await this.#keep(true);
  }

  async #onlyRetry(): Promise<void> {
    while (!this.#stopped.signal.aborted)
      try {
        await this.#rest(this.#options.everyMs);
      } catch (error) {
        logFailure(this.#deps.log, error, 'damaged pieces were not tried again', {}, 'error');
        await pause(this.#options.failedMs, this.#stopped.signal);
      }
  }

  async #passOver(place: ScrubPlace): Promise<void> {
    const { store, onUnreadable, expected } = this.#deps;
    this.#place = place;
    if (place.after === undefined) this.#unreadInPass = new Set();
    const unread = this.#unreadInPass;
    let inRow = 0;
    for await (const { digest } of store.list(place.after)) {
      if (this.#stopped.signal.aborted) return;
      inRow = (await this.#wasRead(digest, unread)) ? 0 : inRow + 1;
      if (this.#stopped.signal.aborted) return;
      this.#place = { ...place, after: digest };
      await this.#keep(false);
      if (inRow < MOST_UNREAD) continue;
      throw new CodedError('DISK_FAILED', { message: `${inRow} blobs in a row cannot be read` });
    }
    for await (const digest of expected?.() ?? []) {
      await this.#rest(this.#pace.read(0, performance.now()));
      if (this.#stopped.signal.aborted) return;
      if (!(await store.has(digest))) await onUnreadable?.(digest);
    }
    this.#place = { beganMs: place.beganMs, isOver: true };
    // What went since is nobody's matter.
    for (const digest of this.#unread) if (!unread.has(digest)) this.#unread.delete(digest);
    notePass('scrub', { isFailed: unread.size > 0, tookMs: this.#tookMs() });
    await this.#keep(true);
  }

  /** Looks at a blob. One that cannot be read now, as for want of rights, keeps the pass from no other: false then. */
  async #wasRead(digest: Digest, unread: Set<Digest>): Promise<boolean> {
    const { onUnreadable, log } = this.#deps;
    try {
      if (!(await this.#look(digest))) await onUnreadable?.(digest);
      this.#unread.delete(digest);
      return true;
    } catch (error) {
      if (this.#stopped.signal.aborted) return true;
      if (unread.size < MOST_KEPT) {
        unread.add(digest);
        this.#unread.add(digest);
      }
      const level = unread.size > MOST_TOLD ? 'debug' : 'error';
      logFailure(log, error, 'a stored blob was not looked through', { digest }, level);
      await this.#rest(this.#pace.read(0, performance.now()));
      return false;
    }
  }

  /** Since the pass under way began, by the wall clock. */
  #tookMs(): number {
    return Math.max(0, this.#deps.nowMs() - (this.#place?.beganMs ?? this.#deps.nowMs()));
  }

  /** Checks all pieces of a blob at the rate; false if it is not here as its sidecar says. */
  async #look(digest: Digest): Promise<boolean> {
    for (let piece = 0, count = 1; piece < count; piece += PIECES_OPEN) {
      await using handle = await this.#deps.store.open(digest, { isLook: true });
      if (handle === undefined) return piece > 0;
      count = handle.metainfo().pieceCount;
      const buffer = Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, handle.sizeBytes));
      for (let one = piece; one < Math.min(count, piece + PIECES_OPEN); one++) {
        await this.#lookAt(handle, one, buffer);
        await this.#rest(this.#pace.read(buffer.length, performance.now()));
        if (this.#stopped.signal.aborted) return true;
      }
    }
    return true;
  }

  async #lookAt(handle: BlobHandle, piece: number, buffer: Buffer): Promise<void> {
    const { digest } = handle;
    const { damaged } = this.#deps;
    try {
      this.#deps.onBytes?.((await handle.readPieceVerified(piece, buffer)).length);
      damaged.forget(digest, piece);
      return;
    } catch (error) {
      if (!isCoded(error, 'DISK_CORRUPT')) throw error;
    }
    try {
      await this.#deps.mend(digest, piece, this.#stopped.signal);
      // Whether it is right on the disk now, not whether somebody has it in memory.
      await handle.readPieceVerified(piece, buffer);
      damaged.forget(digest, piece);
    } catch (error) {
      throwIfBug(error);
      if (this.#stopped.signal.aborted) return;
      this.#deps.log.error({ digest, piece, err: error }, 'a damaged piece could not be mended');
      damaged.note(digest, piece);
    }
  }

  #noted(): void {
    if (this.#retryAtMs !== Number.POSITIVE_INFINITY || this.#stopped.signal.aborted) return;
    this.#retryLater();
    this.#woken.abort();
    this.#woken = new AbortController();
  }

  #retryLater(): void {
    const { retryMs, maxRetryMs } = this.#options;
    this.#failures += 1;
    this.#retryAtMs = performance.now() + backoffMs(this.#failures, retryMs, maxRetryMs);
  }

  /** Waits; what could not be mended is tried again meanwhile, when its time has come. */
  async #rest(ms: number): Promise<void> {
    const untilMs = performance.now() + ms;
    for (;;) {
      if (performance.now() >= this.#retryAtMs) await this.#retry();
      const leftMs = Math.min(untilMs, this.#retryAtMs) - performance.now();
      if (leftMs > 0) await pause(leftMs, this.#woken.signal);
      if (performance.now() >= untilMs || this.#stopped.signal.aborted) return;
    }
  }

  async #retry(): Promise<void> {
    const { store, damaged, log } = this.#deps;
    for (const { digest, piece } of damaged) {
      if (this.#stopped.signal.aborted) return;
      try {
        await using handle = await store.open(digest, { isLook: true });
        if (handle === undefined) damaged.forget(digest, piece);
        else
          await this.#lookAt(handle, piece, Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, handle.sizeBytes)));
      } catch (error) {
        logFailure(log, error, 'a damaged piece was not tried again', { digest, piece }, 'error');
      }
    }
    if (damaged.size > 0) return this.#retryLater();
    this.#failures = 0;
    this.#retryAtMs = Number.POSITIVE_INFINITY;
  }

  async #read(): Promise<ScrubPlace | undefined> {
    try {
      const bytes = await readWhole(this.#deps.files, this.#path);
      return bytes && parsePlace(Buffer.from(bytes).toString('utf8'));
    } catch (error) {
      logFailure(this.#deps.log, error, 'where the last look at stored blobs ended is not known');
      return undefined;
    }
  }

  async #keep(now: boolean): Promise<void> {
    const nowMs = performance.now();
    if (this.#place === undefined || (!now && nowMs < this.#keptMs + KEEP_PLACE_MS)) return;
    this.#keptMs = nowMs;
    const { files, log } = this.#deps;
    const temporary = `${this.#path}.${randomBytes(4).toString('hex')}`;
    const bytes = Buffer.from(JSON.stringify({ v: 1, ...this.#place }));
    try {
      await replaceWhole(files, { path: this.#path, temporary, durable: false }, bytes);
    } catch (error) {
      logFailure(log, error, 'the place of the look at stored blobs is not kept');
    }
  }
}

/** What was kept of a pass; undefined if it is none. */
function parsePlace(text: string): ScrubPlace | undefined {
  let value: { beganMs?: unknown; after?: unknown; isOver?: unknown } | null;
  try {
    value = JSON.parse(text) as typeof value;
  } catch (error) {
    throwIfBug(error);
    return undefined;
  }
  const { beganMs, after, isOver } = value ?? {};
  if (typeof beganMs !== 'number' || !Number.isFinite(beganMs)) return undefined;
  return {
    beganMs,
    ...(typeof after === 'string' && isDigest(after) ? { after } : {}),
    ...(isOver === true ? { isOver } : {}),
  };
}
