import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Context } from 'koa';
import type { Digest } from '../digest.ts';
import { CodedError } from '../errors.ts';
import { PIECE_BYTES, pieceCount, pieceLength } from '../metainfo/tree.ts';
import { type ByteRange, contentRange, parseRange } from './range.ts';

/** A blob whose verified pieces can be read, now or as they arrive. */
export interface ReadableBlob {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** True once the whole digest was verified here: nothing is withheld then. */
  readonly isFinal: boolean;
  /**
   * Verified bytes of a piece; waits until it is there. The view is valid until the next call of this reader.
   * Rejects when the blob failed (`STALE_ATTEMPT`, `NO_PEERS`, `DISK_CORRUPT`).
   */
  readPiece(index: number, signal: AbortSignal): Promise<Uint8Array>;
  /** Resolves when the whole digest was verified; rejects when it is wrong. */
  whenFinal(signal: AbortSignal): Promise<void>;
  /** Tells the fetching side where a reader stands, so that these pieces come first. */
  openReader(pieceIndex: number): BlobReader;
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
 * @throws {CodedError} before any byte: `RANGE_INVALID`, `NO_PEERS`, or what the blob rejects with
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
    ctx.set('Content-Range', `bytes */${sizeBytes}`);
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
  const reader = blob.openReader(Math.floor((plan.parts[0]?.range.start ?? 0) / PIECE_BYTES));
  try {
    const empty = blob.sizeBytes === 0;
    let first: Uint8Array | undefined;
    if (empty) await within(options.firstPieceMs, gone.signal, (signal) => blob.whenFinal(signal));
    else first = await firstPiece(blob, plan, options, gone.signal);
    ctx.status = plan.status;
    for (const [name, value] of Object.entries(plan.headers)) ctx.set(name, value);
    ctx.set('Content-Length', String(bodyLength(plan)));
    ctx.respond = false;
    ctx.res.statusCode = plan.status;
    ctx.res.flushHeaders();
    if (!empty) await sendParts(ctx, blob, options, plan, reader, gone.signal, first);
    ctx.res.end();
    if (!ctx.res.writableFinished)
      await once(ctx.res, 'finish', { signal: gone.signal }).catch(() => undefined);
  } catch (error) {
    if (!ctx.res.headersSent) throw error;
    ctx.res.destroy();
    if (!gone.signal.aborted) throw error;
  } finally {
    ctx.res.off('close', onClose);
    reader.close();
  }
}

/** Waits for the first piece, and where it is also a withheld last one, for the whole digest, before any header. */
async function firstPiece(
  blob: ReadableBlob,
  plan: BodyPlan,
  options: ServeOptions,
  gone: AbortSignal,
): Promise<Uint8Array> {
  const part = plan.parts[0]!;
  const index = Math.floor(part.range.start / PIECE_BYTES);
  return await within(options.firstPieceMs, gone, async (signal) => {
    if (part.withhold && !blob.isFinal && index === pieceCount(blob.sizeBytes) - 1)
      await blob.whenFinal(signal);
    return await blob.readPiece(index, signal);
  });
}

async function sendParts(
  ctx: Context,
  blob: ReadableBlob,
  options: ServeOptions,
  plan: BodyPlan,
  reader: BlobReader,
  gone: AbortSignal,
  first: Uint8Array | undefined,
): Promise<void> {
  let ready = first;
  for (const { range, head, withhold } of plan.parts) {
    if (head !== '') await write(ctx, Buffer.from(head), gone, options);
    const last = Math.floor(range.end / PIECE_BYTES);
    for (let index = Math.floor(range.start / PIECE_BYTES); index <= last; index++) {
      reader.move(index);
      const isLast = index === pieceCount(blob.sizeBytes) - 1;
      let piece = ready;
      ready = undefined;
      piece ??= await within(options.stallMs, gone, async (signal) => {
        if (withhold && isLast && !blob.isFinal) await blob.whenFinal(signal);
        return await blob.readPiece(index, signal);
      });
      if (piece.length !== pieceLength(blob.sizeBytes, index))
        throw new CodedError('DISK_CORRUPT', { detail: { digest: blob.digest, piece: index } });
      const base = index * PIECE_BYTES;
      await write(
        ctx,
        piece.subarray(Math.max(0, range.start - base), Math.min(piece.length, range.end + 1 - base)),
        gone,
        options,
      );
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

async function within<T>(
  ms: number,
  gone: AbortSignal,
  run: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const late = new AbortController();
  const timer = setTimeout(
    () => late.abort(new CodedError('NO_PEERS', { message: `no verified progress within ${ms / 1000} s` })),
    ms,
  );
  try {
    const signal = AbortSignal.any([late.signal, gone]);
    signal.throwIfAborted();
    // NOTE: raced, so that the deadline holds even against a source that does not watch its signal.
    const aborted = new Promise<never>((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
    return await Promise.race([run(signal), aborted]);
  } finally {
    clearTimeout(timer);
  }
}

function bodyLength(plan: BodyPlan): number {
  if (plan.parts.length === 1 && plan.parts[0]!.range.end < 0) return 0;
  return plan.parts.reduce(
    (sum, { range, head }) => sum + Buffer.byteLength(head) + range.end - range.start + 1,
    Buffer.byteLength(plan.tail),
  );
}
