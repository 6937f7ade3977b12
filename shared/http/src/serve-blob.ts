import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { type ByteRange, contentRange, parseRange } from '@sepia/oci/range';
import type { Context } from 'koa';
import { type FeedStep, PieceFeed, within } from './piece-feed.ts';

/** A blob whose verified pieces can be read, now or as they arrive. */
export interface ReadableBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** True once the whole digest was verified here: nothing is withheld then. */
  readonly isFinal: boolean;
  /**
   * Verified bytes of a piece; waits until it is there. `into` (1 MiB, or the blob's size if smaller) may be used
   * for them: fresh megabytes outlive many collections while sockets hold them.
   * Rejects when the blob failed (`STALE_ATTEMPT`, `NO_PEERS`, `DISK_CORRUPT`).
   */
  readPiece(index: number, signal: AbortSignal, into: Uint8Array): Promise<Uint8Array>;
  /** Resolves when the whole digest was verified; rejects when it is wrong. */
  whenFinal(signal: AbortSignal): Promise<void>;
  /** Tells the fetching side where a reader stands that reads no further than `lastPiece`: these pieces come first. */
  openReader(pieceIndex: number, lastPiece: number): BlobReader;
}

export interface BlobReader {
  move(pieceIndex: number): void;
  close(): void;
}

interface ServeOptions {
  /** `Content-Type`; of the blob, not of a multipart answer. */
  readonly contentType: string;
  /** Cut a body that made no verified progress for this long, in ms (30 s in "How a body ends"). */
  readonly stallMs: number;
  /** How long the first piece may take before 503, in ms. */
  readonly firstPieceMs: number;
  /** Called with each number of bytes handed to the socket. */
  readonly onBytes?: (bytes: number) => void;
  /** False when `N-` of this digest must be refused: the client may hold a wrong prefix. */
  readonly resumable?: boolean;
}

/**
 * Answers GET and HEAD of a blob with ranges as design "How a body ends" promises: headers wait for the first
 * verified piece; a body from byte 0 or an open-ended range gets its last piece only after the whole digest was
 * verified; bounded ranges are served at once; a body without progress is cut.
 * @throws {CodedError} before any byte: `RANGE_INVALID`, `REQUEST_INVALID`, `NO_PEERS`, or what the blob rejects with
 */
export async function serveBlob(ctx: Context, blob: ReadableBlob, options: ServeOptions): Promise<void> {
  const etag = `"${blob.digest}"`;
  ctx.set('Docker-Content-Digest', blob.digest);
  ctx.set('Accept-Ranges', 'bytes');
  ctx.set('ETag', etag);
  ctx.set('Cache-Control', 'max-age=31536000');
  ctx.set('Content-Type', options.contentType);
  if (ctx.get('if-none-match') === etag) {
    ctx.status = 304;
    return;
  }
  if (ctx.method === 'HEAD') {
    ctx.set('Content-Length', String(blob.sizeBytes));
    ctx.respond = false;
    ctx.res.statusCode = 200;
    ctx.res.end();
    return;
  }
  const ifRange = ctx.get('if-range');
  const asked = parseRangeOf(
    ctx,
    ifRange !== '' && ifRange !== etag ? undefined : ctx.get('range'),
    blob.sizeBytes,
  );
  if (asked.type === 'single') {
    const { range, openEnded } = asked;
    if (openEnded && range.start > 0 && options.resumable === false) {
      throw new CodedError('NO_PEERS', {
        message: 'this blob failed verification; begin its download again',
        detail: { digest: blob.digest },
      });
    }
    await sendBody(ctx, blob, options, {
      status: 206,
      parts: [{ range, head: '', withhold: openEnded }],
      tail: '',
      headers: { 'Content-Range': contentRange(range, blob.sizeBytes) },
    });
  } else if (asked.type === 'several') {
    const boundary = randomBytes(16).toString('hex');
    const parts = asked.ranges.map((range) => ({
      range,
      head: `\r\n--${boundary}\r\nContent-Type: ${options.contentType}\r\nContent-Range: ${contentRange(range, blob.sizeBytes)}\r\n\r\n`,
      withhold: false,
    }));
    await sendBody(ctx, blob, options, {
      status: 206,
      parts,
      tail: `\r\n--${boundary}--\r\n`,
      headers: { 'Content-Type': `multipart/byteranges; boundary=${boundary}` },
    });
  } else {
    const range = { start: 0, end: blob.sizeBytes - 1 };
    await sendBody(ctx, blob, options, {
      status: 200,
      parts: [{ range, head: '', withhold: true }],
      tail: '',
      headers: {},
    });
  }
}

function parseRangeOf(
  ctx: Context,
  header: string | undefined,
  sizeBytes: number,
): ReturnType<typeof parseRange> {
  try {
    return parseRange(header, sizeBytes);
  } catch (error) {
    if (isCoded(error, 'RANGE_INVALID')) ctx.set('Content-Range', `bytes */${sizeBytes}`);
    throw error;
  }
}

interface BodyPlan {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly parts: readonly { readonly range: ByteRange; readonly head: string; readonly withhold: boolean }[];
  readonly tail: string;
}

async function sendBody(
  ctx: Context,
  blob: ReadableBlob,
  options: ServeOptions,
  plan: BodyPlan,
): Promise<void> {
  const gone = new AbortController();
  const onClose = (): void => gone.abort(new CodedError('TIMEOUT', { message: 'client is gone' }));
  ctx.res.once('close', onClose);
  const readers = plan.parts.map(({ range }) =>
    blob.openReader(Math.floor(range.start / PIECE_BYTES), Math.max(0, Math.floor(range.end / PIECE_BYTES))),
  );
  try {
    const empty = blob.sizeBytes === 0;
    const feed = new PieceFeed(blob, gone.signal);
    const [firstStep, secondStep] = empty ? [] : stepsOf(plan).flat();
    let first: Uint8Array | undefined;
    if (firstStep === undefined)
      await within(options.firstPieceMs, gone.signal, (signal) => blob.whenFinal(signal));
    else first = await feed.take(firstStep, secondStep, options.firstPieceMs);
    ctx.status = plan.status;
    for (const [name, value] of Object.entries(plan.headers)) ctx.set(name, value);
    ctx.set('Content-Length', String(bodyLength(plan)));
    ctx.respond = false;
    ctx.res.statusCode = plan.status;
    ctx.res.flushHeaders();
    if (first !== undefined) await sendParts(ctx, plan, options, { feed, readers, gone: gone.signal }, first);
    ctx.res.end();
    if (!ctx.res.writableFinished)
      await once(ctx.res, 'finish', { signal: gone.signal }).catch(() => undefined);
  } catch (error) {
    if (!ctx.res.headersSent) throw error;
    ctx.res.destroy();
    if (!gone.signal.aborted) throw error;
  } finally {
    ctx.res.off('close', onClose);
    for (const reader of readers) reader.close();
  }
}

/** Steps of a plan, part by part: which pieces, in order. */
function stepsOf(plan: BodyPlan): FeedStep[][] {
  return plan.parts.map(({ range, withhold }) => {
    const first = Math.floor(range.start / PIECE_BYTES);
    const count = Math.floor(range.end / PIECE_BYTES) - first + 1;
    return Array.from({ length: count }, (_, at) => ({ index: first + at, withhold }));
  });
}

interface Sending {
  readonly feed: PieceFeed;
  /** One a part. */
  readonly readers: readonly BlobReader[];
  readonly gone: AbortSignal;
}

/** Writes all parts; `first` is the piece of the first step. */
async function sendParts(
  ctx: Context,
  plan: BodyPlan,
  options: ServeOptions,
  { feed, readers, gone }: Sending,
  first: Uint8Array,
): Promise<void> {
  const steps = stepsOf(plan);
  const flat = steps.flat();
  let at = 0;
  for (const [partIndex, { range, head }] of plan.parts.entries()) {
    if (head !== '') await write(ctx, Buffer.from(head), gone, options);
    for (const step of steps[partIndex]!) {
      readers[partIndex]!.move(step.index);
      const piece = at === 0 ? first : await feed.take(step, flat[at + 1], options.stallMs);
      at += 1;
      const base = step.index * PIECE_BYTES;
      const bytes = piece.subarray(
        Math.max(0, range.start - base),
        Math.min(piece.length, range.end + 1 - base),
      );
      await write(ctx, bytes, gone, options);
    }
  }
  if (plan.tail !== '') await write(ctx, Buffer.from(plan.tail), gone, options);
}

/** Resolves when the socket took the bytes: the caller may then reuse the buffer. */
async function write(
  ctx: Context,
  bytes: Uint8Array,
  gone: AbortSignal,
  options: ServeOptions,
): Promise<void> {
  if (gone.aborted) throw gone.reason;
  await new Promise<void>((resolve, reject) => {
    const onGone = (): void => reject(gone.reason);
    gone.addEventListener('abort', onGone, { once: true });
    ctx.res.write(bytes, (error) => {
      gone.removeEventListener('abort', onGone);
      if (error == null) resolve();
      else reject(error);
    });
  });
  options.onBytes?.(bytes.length);
}

function bodyLength(plan: BodyPlan): number {
  if (plan.parts.length === 1 && plan.parts[0]!.range.end < 0) return 0;
  return plan.parts.reduce(
    (sum, { range, head }) => sum + Buffer.byteLength(head) + range.end - range.start + 1,
    Buffer.byteLength(plan.tail),
  );
}
