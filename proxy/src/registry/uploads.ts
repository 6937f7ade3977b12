import { type Digest, digestAlgorithm, digestOf, isOtherDigest, parseDigest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { ignoreFailure, logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { type NamedUpstream, type ResolvedName, resolveName } from '@sepia/base/names/upstream-name';
import { mountSource } from '@sepia/face/door/mount-source';
import type { RegistryHandler } from '@sepia/face/registry-app';
import { goneSignal } from '@sepia/http/client-gone';
import { queryValue } from '@sepia/http/signed';
import { parseChunkRange } from '@sepia/oci/chunk-range';
import type { Context } from 'koa';
import { RequestBody } from '../bodies/request-body.ts';
import { UPLOAD_CANCEL_MS } from '../deadlines.ts';
import { locationOf, sendEmpty } from './answers.ts';
import { keyOf } from './core/push-places.ts';
import { heldRange, parseUploadId, type UploadId } from './core/upload.ts';
import { type PushGate, pusherOf } from './push-gate.ts';
import type { PushTarget, UploadBody, Uploads } from './upload-sessions.ts';

/** A body up to this size closes its session where it was begun. */
const SMALL_BODY_BYTES = 256 * 1024;

interface UploadDeps {
  readonly uploads: Uploads;
  readonly gate: PushGate;
  readonly upstreams: () => readonly NamedUpstream[];
  readonly defaultUpstream: string | undefined;
  readonly log: Logger;
}

/** POST: a mount, a whole blob in one request, or a new session. */
export function startUpload(deps: UploadDeps): RegistryHandler<'uploads'> {
  return async (ctx, target, { name }) => {
    deps.gate.checkMode(target);
    const asked = queryValue(ctx, 'mount');
    // Nothing here has it: the upload is an ordinary one, and its end says what is taken.
    const mount = asked === undefined || isOtherDigest(asked) ? undefined : asked;
    const digest = queryValue(ctx, 'digest');
    const signal = goneSignal(ctx);
    if (mount !== undefined) {
      const wanted = parseDigest(mount);
      if (await isMounted(deps, ctx, target, wanted, signal)) return sendCreated(ctx, name, wanted);
    } else if (digest !== undefined) {
      const wanted = parseDigest(digest);
      const length = contentLength(ctx);
      if (length !== 0 || isEmptyDigest(wanted)) {
        const body: UploadBody = { stream: new RequestBody(ctx.req), contentLength: length };
        const client = keyOf(pusherOf(ctx));
        await deps.gate.run(ctx, async (turn) => {
          const either = AbortSignal.any([signal, turn.signal]);
          await deps.uploads.putWhole({ ...target, client }, wanted, body, either);
        });
        return sendCreated(ctx, name, wanted);
      }
    }
    const uploadId = await deps.uploads.begin({ ...target, client: keyOf(pusherOf(ctx)) }, signal);
    sendSession(ctx, name, uploadId, 0);
    sendEmpty(ctx, 202);
  };
}

/** PATCH: the next chunk, with or without length and Content-Range. */
export function appendUpload(deps: UploadDeps): RegistryHandler<'upload'> {
  return async (ctx, target, { name, uploadId }) => {
    deps.gate.checkMode(target);
    const id = parseUploadId(uploadId);
    const body = bodyOf(ctx);
    await inSession(deps, ctx, target, { name, id }, async (signal) =>
      sendSession(ctx, name, id.text, await deps.uploads.append(id, target, body, signal)),
    );
    sendEmpty(ctx, 202);
  };
}

/** PUT: closes a session; a whole body on an empty one goes straight to an owner of the blob. */
export function finishUpload(deps: UploadDeps): RegistryHandler<'upload'> {
  return async (ctx, target, { name, uploadId }) => {
    deps.gate.checkMode(target);
    const id = parseUploadId(uploadId);
    const digest = queryValue(ctx, 'digest');
    if (digest === undefined)
      throw new CodedError('DIGEST_SYNTAX', { message: 'closing an upload needs ?digest=' });
    const wanted = parseDigest(digest);
    const body = bodyOf(ctx);
    const client = keyOf(pusherOf(ctx));
    await inSession(deps, ctx, target, { name, id }, async (signal) => {
      try {
        await finish(deps, id, { ...target, client }, wanted, body, signal);
      } catch (error) {
        if (!isCoded(error, 'UPLOAD_UNKNOWN')) throw error;
        // It was closed before, and its client did not hear of it: the repository has the blob.
        if (!(await deps.uploads.mount(target, target.repository, wanted, signal))) throw error;
      }
    });
    sendCreated(ctx, name, wanted);
  };
}

/**
 * Runs `work` when it is its turn, until the client is gone. Where a chunk does not fit the session's offset or its own
 * length, the client is told the offset and goes on from there.
 */
async function inSession(
  { gate, uploads }: UploadDeps,
  ctx: Context,
  target: ResolvedName,
  { name, id }: { readonly name: string; readonly id: UploadId },
  work: (signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const signal = goneSignal(ctx);
  await gate.run(ctx, async (turn) => {
    try {
      await work(AbortSignal.any([signal, turn.signal]));
    } catch (error) {
      if (!isCoded(error, 'UPLOAD_OUT_OF_ORDER') && !isCoded(error, 'SIZE_MISMATCH')) throw error;
      const offset = await uploads.offset(id, target, signal).catch(ignoreFailure);
      if (offset !== undefined) sendSession(ctx, name, id.text, offset);
      throw error;
    }
  });
}

/**
 * Sends the closing request's body where it costs least. A large whole body goes to an owner of the blob, which stores it
 * once; a small one goes to the stager: another copy costs less than the questions for an owner that has room.
 */
async function finish(
  deps: UploadDeps,
  id: UploadId,
  target: PushTarget,
  digest: Digest,
  body: UploadBody,
  signal: AbortSignal,
): Promise<void> {
  const isWhole = body.range === undefined || body.range.start === 0;
  const isLarge = (body.contentLength ?? 0) > SMALL_BODY_BYTES;
  if (!isWhole || !isLarge || (await deps.uploads.offset(id, target, signal)) > 0) {
    await deps.uploads.finish(id, target, digest, body, signal);
    return;
  }
  await deps.uploads.putWhole(target, digest, body, signal, id);
  await deps.uploads.cancel(id, target, AbortSignal.timeout(UPLOAD_CANCEL_MS)).catch((error: unknown) => {
    logFailure(deps.log, error, 'an empty session was left to expire', { uploadId: id.text }, 'debug');
  });
}

/** GET: what the session holds. */
export function uploadStatus(deps: UploadDeps): RegistryHandler<'upload'> {
  return async (ctx, target, { name, uploadId }) => {
    const id = parseUploadId(uploadId);
    sendSession(ctx, name, id.text, await deps.uploads.offset(id, target, goneSignal(ctx)));
    sendEmpty(ctx, 204);
  };
}

/** DELETE: drops the session. */
export function cancelUpload(deps: UploadDeps): RegistryHandler<'upload'> {
  return async (ctx, target, { uploadId }) => {
    await deps.uploads.cancel(parseUploadId(uploadId), target, goneSignal(ctx));
    sendEmpty(ctx, 204);
  };
}

/**
 * `from` is a name as the client writes it; a mount from another upstream, or from what cannot be a repository here, is
 * an ordinary upload. Without it only what this repository has already is there: a digest that was learned elsewhere
 * opens nothing.
 */
async function isMounted(
  deps: UploadDeps,
  ctx: Context,
  target: ResolvedName,
  digest: Digest,
  signal: AbortSignal,
): Promise<boolean> {
  const from = queryValue(ctx, 'from');
  if (from === undefined) return await deps.uploads.mount(target, target.repository, digest, signal);
  const ns = queryValue(ctx, 'ns');
  const source = mountSource(from, (name) =>
    resolveName({ ns, name, defaultUpstream: deps.defaultUpstream }, deps.upstreams()),
  );
  if (source?.upstream !== target.upstream) return false;
  return await deps.uploads.mount(target, source.repository, digest, signal);
}

function bodyOf(ctx: Context): UploadBody {
  const length = contentLength(ctx);
  const range = ctx.get('content-range');
  const said = range === '' ? {} : { range: parseChunkRange(range, length) };
  return { stream: new RequestBody(ctx.req), contentLength: length, ...said };
}

/** Undefined for chunked transfer, 0 for no body. */
function contentLength(ctx: Context): number | undefined {
  if (ctx.get('transfer-encoding') !== '') return undefined;
  return Number(ctx.get('content-length') || 0);
}

function isEmptyDigest(digest: Digest): boolean {
  return digest === digestOf(new Uint8Array(0), digestAlgorithm(digest));
}

function sendSession(ctx: Context, name: string, uploadId: string, offsetBytes: number): void {
  ctx.set('Location', locationOf(ctx, name, `blobs/uploads/${uploadId}`));
  ctx.set('Docker-Upload-UUID', uploadId);
  ctx.set('Range', heldRange(offsetBytes));
}

function sendCreated(ctx: Context, name: string, digest: Digest): void {
  ctx.remove('Range');
  ctx.set('Location', locationOf(ctx, name, `blobs/${digest}`));
  ctx.set('Docker-Content-Digest', digest);
  sendEmpty(ctx, 201);
}
