import { askInTurn, firstAnswer } from '@sepia/base/async/ask-many';
import { FreshFlight } from '@sepia/base/async/fresh-flight';
import { alone } from '@sepia/base/chunk';
import { type Digest, digestAlgorithm, digestOf, parseDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { parseTag, type Tag } from '@sepia/base/names/repository';
import type { ResolvedName } from '@sepia/base/names/upstream-name';
import { H_CHANGE, H_STALE } from '@sepia/cluster/api/headers';
import { ORIGIN_NAMES } from '@sepia/cluster/api/origin';
import { type RouteCall, to } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import { isDefinite } from '@sepia/cluster/core/answers';
import { FIRST_ANSWER_MS } from '@sepia/cluster/deadlines';
import { type ManifestAnswer, sendManifest } from '@sepia/face/manifest-answer';
import type { RegistryHandler } from '@sepia/face/registry-app';
import type { RequestState } from '@sepia/http/app';
import { wholeBody } from '@sepia/http/bodies/whole-body';
import { type InternalResponse, readLimited } from '@sepia/http/client';
import { goneSignal } from '@sepia/http/client-gone';
import { IDLE_PROGRESS_MS } from '@sepia/http/deadlines/sockets';
import { MAX_MANIFEST_BYTES } from '@sepia/oci/manifest';
import { parsePushedManifest } from '@sepia/oci/pushed-manifest';
import { type Reference, referenceText } from '@sepia/oci/route';
import type { Context } from 'koa';
import { BESIDE_MISSES, whileAlive } from '../bodies/blob-source.ts';
import { RequestBody, watchFlow } from '../bodies/request-body.ts';
import { headerOf, newChange, type Origins } from '../cluster/origins.ts';
import { HEDGE_MS, MANIFEST_WRITE_MS } from '../deadlines.ts';
import { locationOf, sendEmpty } from './answers.ts';
import type { ManifestCache } from './core/manifest-cache.ts';
import type { PushGate, PushTurn } from './push-gate.ts';

/** A manifest's body is read as it comes: only its client can make it wait. */
const BODY_FLOW = { originSilentMs: IDLE_PROGRESS_MS, idleMs: IDLE_PROGRESS_MS, answerMs: IDLE_PROGRESS_MS };

/** Of an answer to a push, which says all in its headers. */
const MAX_WRITTEN_BYTES = 64 * 1024;

interface ManifestDeps {
  readonly origins: Origins;
  readonly cache: ManifestCache;
  /** True where the upstream wants to be asked before a manifest is served (`manifest-recheck`). */
  readonly isRechecked: (upstream: string) => boolean;
  readonly gate: PushGate;
  readonly nowMs: () => number;
}

/** GET and HEAD of a manifest: by digest from memory if it is there, a tag always from an origin. */
export function readManifest(deps: ManifestDeps): RegistryHandler<'manifest'> {
  const asked = new FreshFlight<string, ManifestAnswer>({ waitMs: HEDGE_MS });
  return async (ctx, target, route) => {
    const { reference } = route;
    const mayServe = reference.kind === 'digest' && !deps.isRechecked(target.upstream);
    const known = mayServe
      ? deps.cache.get({ ...target, digest: reference.digest }, deps.nowMs())
      : undefined;
    if (known !== undefined) return sendManifest(ctx, { ...known, sizeBytes: known.bytes.length });
    const method = ctx.method === 'HEAD' ? 'HEAD' : 'GET';
    // All nodes ask at once.
    const key = [method, target.upstream, target.repository, referenceText(reference)].join('\n');
    const find = async (signal: AbortSignal): Promise<ManifestAnswer> =>
      await askOrigins(deps, target, reference, method, signal);
    sendManifest(ctx, await asked.run(key, find, goneSignal(ctx)));
  };
}

async function askOrigins(
  deps: ManifestDeps,
  target: ResolvedName,
  reference: Reference,
  method: 'GET' | 'HEAD',
  signal: AbortSignal,
): Promise<ManifestAnswer> {
  const lookUp = deps.cache.begin(deps.nowMs());
  const { path } = to(ORIGIN_NAMES.manifest, { ...target, reference: referenceText(reference) });
  const wanted = reference.kind === 'digest' ? reference.digest : undefined;
  const ask = async (id: string, abort: AbortSignal): Promise<ManifestAnswer> => {
    const call = { method, path, headersTimeoutMs: FIRST_ANSWER_MS.origin } as const;
    const either = AbortSignal.any([abort, signal]);
    const run = (running: AbortSignal): Promise<InternalResponse> =>
      deps.origins.call(id, { ...call, signal: running });
    const answer = await whileAlive(deps.origins, id, either, run, BESIDE_MISSES);
    return await manifestOf(answer, id, method, wanted);
  };
  const order = deps.origins.tries(shardKey(target.upstream, target.repository));
  const found = await firstAnswer(order, ask, { hedgeAfterMs: HEDGE_MS, signal, isFinal: isDefinite });
  const { digest, mediaType, bytes } = found;
  if (bytes !== undefined)
    deps.cache.note({ ...target, digest }, { digest, mediaType, bytes: alone(bytes) }, lookUp);
  return found;
}

/** Reads an origin's answer and checks the bytes against their digest. @throws {CodedError} `PEER_HTTP` when they lie */
async function manifestOf(
  answer: InternalResponse,
  id: string,
  method: 'GET' | 'HEAD',
  wanted: Digest | undefined,
): Promise<ManifestAnswer> {
  const bytes = method === 'HEAD' ? undefined : await readLimited(answer.body, MAX_MANIFEST_BYTES, id);
  if (bytes === undefined) await answer.body.dump();
  const digest = parseDigest(headerOf(answer, 'docker-content-digest') ?? wanted ?? '');
  const isLie =
    (wanted !== undefined && digest !== wanted) ||
    (bytes !== undefined && digestOf(bytes, digestAlgorithm(digest)) !== digest);
  if (isLie)
    throw new CodedError('PEER_HTTP', {
      message: `origin ${id} sent a manifest that does not match its digest`,
      detail: { digest },
    });
  const sizeBytes = bytes?.length ?? Number(headerOf(answer, 'content-length') ?? Number.NaN);
  if (!Number.isSafeInteger(sizeBytes))
    throw new CodedError('PEER_HTTP', {
      message: `origin ${id} does not say how long a manifest is`,
      detail: { digest },
    });
  const stale = Number(headerOf(answer, H_STALE) ?? Number.NaN);
  return {
    digest,
    mediaType: headerOf(answer, 'content-type') ?? 'application/octet-stream',
    sizeBytes,
    ...(bytes === undefined ? {} : { bytes }),
    ...(Number.isFinite(stale) ? { staleSeconds: stale } : {}),
  };
}

/** PUT of a manifest: checked, then stored and tagged by an origin on a quorum before the 201. */
export function putManifest(deps: ManifestDeps): RegistryHandler<'manifest'> {
  return async (ctx, target, route) => {
    deps.gate.checkMode(target);
    await deps.gate.run(ctx, async (turn) => await takeManifest(deps, ctx, target, route, turn));
  };
}

async function takeManifest(
  deps: ManifestDeps,
  ctx: Context,
  target: ResolvedName,
  route: Parameters<RegistryHandler<'manifest'>>[2],
  turn: PushTurn,
): Promise<void> {
  const signal = goneSignal(ctx);
  const bytes = await readManifestBody(ctx, turn);
  // The body may have come hours after the head.
  await (ctx.state as RequestState).stillMay?.();
  const { subject, mediaType } = parsePushedManifest(bytes, ctx.get('content-type'));
  const { reference } = route;
  if (reference.kind === 'digest') checkDigest(bytes, reference.digest);
  const asked = { ...target, reference: referenceText(reference), tag: tagsOf(ctx, reference) };
  const call = to(ORIGIN_NAMES.manifestPut, asked);
  const lookUp = deps.cache.begin(deps.nowMs());
  const { digest, tags } = await store(deps.origins, target, call, bytes, mediaType, signal);
  deps.cache.note({ ...target, digest }, { digest, mediaType, bytes: alone(bytes) }, lookUp);
  ctx.set('Location', locationOf(ctx, route.name, `manifests/${digest}`));
  ctx.set('Docker-Content-Digest', digest);
  if (subject !== undefined) ctx.set('OCI-Subject', subject);
  if (tags.length > 0) ctx.set('OCI-Tag', [...tags]);
  sendEmpty(ctx, 201);
}

/** Tags that a push by digest moves as well (distribution-spec, end-7b). @throws `TAG_INVALID` */
function tagsOf(ctx: Context, reference: Reference): readonly Tag[] {
  const value = ctx.query['tag'];
  if (value === undefined || reference.kind === 'tag') return [];
  return (Array.isArray(value) ? value : [value]).map((text) => parseTag(text));
}

/** Asks one origin after the other, never two at once: a write that is late must not be sent twice for nothing. */
async function store(
  origins: Origins,
  target: ResolvedName,
  call: RouteCall,
  bytes: Uint8Array,
  mediaType: string,
  signal: AbortSignal,
): Promise<{ digest: Digest; tags: readonly string[] }> {
  const headers = {
    'content-type': mediaType,
    'content-length': String(bytes.length),
    [H_CHANGE]: newChange(),
  };
  const order = origins.tries(shardKey(target.upstream, target.repository));
  const ask = async (id: string): Promise<{ digest: Digest; tags: readonly string[] }> => {
    const answer = await whileAlive(origins, id, signal, (running) =>
      origins.bytes(
        id,
        { ...call, headers, body: bytes, headersTimeoutMs: MANIFEST_WRITE_MS, signal: running },
        MAX_WRITTEN_BYTES,
      ),
    );
    const tags = answer.headers['oci-tag'] ?? [];
    return {
      digest: parseDigest(headerOf(answer, 'docker-content-digest') ?? digestOf(bytes)),
      tags: Array.isArray(tags) ? tags : [tags],
    };
  };
  return await askInTurn(order, ask, { signal, isFinal: isDefinite });
}

async function readManifestBody(ctx: Context, turn: PushTurn): Promise<Buffer> {
  const tooLarge = (): CodedError =>
    new CodedError('MANIFEST_TOO_LARGE', { detail: { limitBytes: MAX_MANIFEST_BYTES } });
  if (Number(ctx.get('content-length') || 0) > MAX_MANIFEST_BYTES) throw tooLarge();
  const body = new RequestBody(ctx.req);
  const idle = new AbortController();
  const endWatch = watchFlow(body, BODY_FLOW, () => true, idle);
  const stop = AbortSignal.any([turn.signal, idle.signal]);
  const cut = (): void => void body.destroy(stop.reason as Error);
  stop.addEventListener('abort', cut, { once: true });
  try {
    return await wholeBody(body, MAX_MANIFEST_BYTES, tooLarge, (sizeBytes) => turn.hold(sizeBytes));
  } finally {
    endWatch();
    stop.removeEventListener('abort', cut);
  }
}

function checkDigest(bytes: Uint8Array, digest: Digest): void {
  const found = digestOf(bytes, digestAlgorithm(digest));
  if (found !== digest) throw new CodedError('DIGEST_MISMATCH', { detail: { expected: digest, found } });
}
