import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { ignoreFailure } from '@sepia/base/failure';
import { clientHas } from '@sepia/oci/etag';
import { contentRange, isResume, parseRange } from '@sepia/oci/range';
import type { Context } from 'koa';
import type { ReadableBlob } from './bodies/readable-blob.ts';
import { type BodyPlan, sendBody } from './bodies/send-body.ts';
import { goneSignal } from './client-gone.ts';
import { UNTAKEN_MS } from './deadlines/sockets.ts';

interface ServeOptions {
  /** `Content-Type`; of the blob, not of a multipart answer. */
  readonly contentType: string;
  /** Cut a body that made no verified progress for this long, in ms (30 s in "How a body ends"). */
  readonly stallMs: number;
  /** How long the first piece may take before 503, in ms. */
  readonly firstPieceMs: number;
  /** Cut a client that takes no byte for this long, in ms; 60 s if not given. */
  readonly untakenMs?: number;
  /** Called with each number of bytes handed to the socket. */
  readonly onBytes?: (bytes: number) => void;
  /** False when `N-` of this digest must be refused: the client may hold a wrong prefix. */
  readonly resumable?: boolean;
}

/**
 * Answers GET and HEAD of a blob with ranges as docs/operations.md, "How a body ends", promises: headers wait for the first
 * verified piece; a body from byte 0 or an open-ended range gets its last piece only after the whole digest was
 * verified; bounded ranges are served at once; a body without progress is cut.
 * @throws {CodedError} before any byte: `RANGE_INVALID`, `REQUEST_INVALID`, `NO_PEERS`, or what the blob rejects with
 */
export async function serveBlob(ctx: Context, blob: ReadableBlob, options: ServeOptions): Promise<void> {
  if (ctx.method === 'HEAD') return serveHead(ctx, blob, options);
  const etag = `"${blob.digest}"`;
  if (isKnown(ctx, blob.digest, options)) return;
  const ifRange = ctx.get('if-range');
  const asked = parseRangeOf(
    ctx,
    ifRange !== '' && ifRange !== etag ? undefined : ctx.get('range'),
    blob.sizeBytes,
  );
  if (asked.type === 'single') {
    const { range, openEnded } = asked;
    if (openEnded && range.start > 0 && options.resumable === false) {
      throw resumeRefused(blob.digest);
    }
    await answer(ctx, blob, options, {
      status: 206,
      parts: [{ range: { ...range, withhold: openEnded }, head: '' }],
      tail: '',
      headers: { 'Content-Range': contentRange(range, blob.sizeBytes) },
    });
  } else if (asked.type === 'several') {
    const boundary = randomBytes(16).toString('hex');
    const parts = asked.ranges.map((range) => ({
      range: { ...range, withhold: false },
      head: `\r\n--${boundary}\r\nContent-Type: ${options.contentType}\r\nContent-Range: ${contentRange(range, blob.sizeBytes)}\r\n\r\n`,
    }));
    await answer(ctx, blob, options, {
      status: 206,
      parts,
      tail: `\r\n--${boundary}--\r\n`,
      headers: { 'Content-Type': `multipart/byteranges; boundary=${boundary}` },
    });
  } else {
    await answer(ctx, blob, options, {
      status: 200,
      parts: [{ range: { start: 0, end: blob.sizeBytes - 1, withhold: true }, head: '' }],
      tail: '',
      headers: {},
    });
  }
}

/** True where the client goes on with what it has of the blob: `N-`. */
export function asksToResume(ctx: Context, digest: Digest): boolean {
  const ifRange = ctx.get('if-range');
  return (ifRange === '' || ifRange === `"${digest}"`) && isResume(ctx.get('range'));
}

/** What `N-` of a blob is answered that came out wrong: the client may hold a wrong prefix. */
export function resumeRefused(digest: Digest): CodedError {
  return new CodedError('NO_PEERS', {
    message: 'this blob failed verification; begin its download again',
    detail: { digest },
  });
}

/** Answers HEAD of a blob whose size is known: 304 where the client has it, else 200 with its length. Nothing of the blob is read. */
export function serveHead(
  ctx: Context,
  blob: Pick<ReadableBlob, 'digest' | 'sizeBytes'>,
  options: Pick<ServeOptions, 'contentType'>,
): void {
  if (isKnown(ctx, blob.digest, options)) return;
  // By hand: Koa drops Content-Length of answers without a body.
  ctx.set('Content-Length', String(blob.sizeBytes));
  ctx.respond = false;
  ctx.res.statusCode = 200;
  ctx.res.end();
}

/** Says what the blob is; true if the client has it: then that is the answer. */
function isKnown(ctx: Context, digest: Digest, options: Pick<ServeOptions, 'contentType'>): boolean {
  const etag = `"${digest}"`;
  ctx.set('Docker-Content-Digest', digest);
  ctx.set('Accept-Ranges', 'bytes');
  ctx.set('ETag', etag);
  ctx.set('Cache-Control', 'max-age=31536000');
  ctx.set('Content-Type', options.contentType);
  if (!clientHas(ctx.get('if-none-match'), etag)) return false;
  ctx.status = 304;
  return true;
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

interface AnswerPlan extends BodyPlan {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
}

async function answer(
  ctx: Context,
  blob: ReadableBlob,
  options: ServeOptions,
  plan: AnswerPlan,
): Promise<void> {
  const gone = goneSignal(ctx);
  const { socket } = ctx.res;
  const idleMs = socket?.timeout;
  const { untakenMs = UNTAKEN_MS } = options;
  const sink = {
    begin: () => {
      ctx.status = plan.status;
      for (const [name, value] of Object.entries(plan.headers)) ctx.set(name, value);
      ctx.set('Content-Length', String(bodyLength(plan)));
      ctx.respond = false;
      ctx.res.statusCode = plan.status;
      ctx.res.flushHeaders();
    },
    write: async (bytes: Uint8Array) => {
      // While the source is what is waited for, the client takes nothing because there is nothing.
      socket?.setTimeout(untakenMs);
      await write(ctx, bytes, gone);
      socket?.setTimeout(0);
      options.onBytes?.(bytes.length);
    },
  };
  try {
    await sendBody(blob, plan, sink, options, gone);
    socket?.setTimeout(untakenMs);
    ctx.res.end();
    if (!ctx.res.writableFinished) await once(ctx.res, 'finish', { signal: gone }).catch(ignoreFailure);
  } catch (error) {
    if (!ctx.res.headersSent) throw error;
    ctx.res.destroy();
    if (!gone.aborted) throw error;
  } finally {
    if (idleMs !== undefined) socket?.setTimeout(idleMs);
  }
}

/** Resolves when the socket took the bytes: the caller may then reuse the buffer. */
async function write(ctx: Context, bytes: Uint8Array, gone: AbortSignal): Promise<void> {
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
}

function bodyLength(plan: AnswerPlan): number {
  return plan.parts.reduce(
    (sum, { range, head }) => sum + Buffer.byteLength(head) + range.end - range.start + 1,
    Buffer.byteLength(plan.tail),
  );
}
