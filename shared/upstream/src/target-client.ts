import { type Digest, isDigest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { MANIFEST_ACCEPT, OCI_INDEX } from '@sepia/oci/manifest';
import type { Authenticator } from './authenticator.ts';
import { Authority } from './authority.ts';
import { apiUrl } from './core/api-url.ts';
import { ChunkSizes } from './core/chunk-sizes.ts';
import { isRefusedMount, isTooLarge, mayResume, NO_CHUNKS, TAKEN, THERE } from './core/target-answers.ts';
import { NO_CHUNKS_MS, TARGET_CONNECT_MS, TARGET_HEADERS_MS, TARGET_READ_MS } from './deadlines/upstreams.ts';
import { type Answer, discard, exchange, header } from './exchange.ts';
import { failureOf, NO_HEAD } from './failure.ts';
import { redirectTarget } from './redirect.ts';
import { NO_REFERRERS_API, referrersOf } from './referrers/referrer-list.ts';
import { SlotGate } from './slot-gate.ts';
import type { UpstreamSockets } from './sockets.ts';
import { type Call, documentOf, lostSessions, type OutgoingBlob, scopeOf } from './target-call.ts';
import { carriesPassword, type RegistryAccess, socketsOf } from './transport.ts';

export interface TargetClientDeps extends RegistryAccess {
  readonly log: Logger;
  readonly nowMs: () => number;
  /** Said in `ns` of each request: which of its upstreams a proxy of Sepia is to write to. */
  readonly ns?: string;
}

const USER_AGENT = 'sepia';
/** A blob up to this many bytes goes in one PUT, a larger one in chunks; fewer where so many are too large. */
const SINGLE_BYTES = 4 * 1024 * 1024;
/** Requests of one blob in a row that brought no byte until it fails. */
const MAX_FRUITLESS = 3;
/** Sessions of one blob that the target may lose until it fails. */
const MAX_LOST = 3;

/**
 * Writes to another registry over the distribution API, with Basic or token authentication. Failures have the codes of
 * the upstream client, and their messages name the target's host.
 */
export class TargetClient {
  readonly #deps: TargetClientDeps;
  readonly #base: URL;
  readonly #sockets: UpstreamSockets;
  readonly #gate: SlotGate;
  readonly #authority: Authority;
  readonly #auth: Authenticator;
  /** Until when blobs go whole, as chunks were refused and one PUT was not. */
  #wholeUntilMs = 0;
  readonly #chunks = new ChunkSizes({ keptMs: NO_CHUNKS_MS });

  constructor(deps: TargetClientDeps, options: { readonly connections: number }) {
    this.#deps = deps;
    this.#base = deps.home.base;
    // Callers bound how many blobs are sent at once; small calls go beside them.
    const connections = options.connections + 4;
    this.#gate = new SlotGate({ slots: connections, queueLimit: 1_000, waitMs: TARGET_READ_MS });
    this.#sockets = socketsOf(deps, { connections, connectTimeoutMs: TARGET_CONNECT_MS });
    this.#authority = new Authority(
      { ...deps, base: this.#base, sockets: this.#sockets },
      { timeoutMs: TARGET_HEADERS_MS, queueLimit: 1_000, userAgent: USER_AGENT },
    );
    this.#auth = this.#authority.authorizer(deps.credentials);
  }

  /** Host and port, for people. */
  get host(): string {
    return this.#base.host;
  }

  /** The digest that a tag or digest has at the target, or undefined if it is not there. */
  async headManifest(
    repository: string,
    reference: string,
    signal: AbortSignal,
  ): Promise<Digest | undefined> {
    const answer = await this.#askManifest('HEAD', repository, reference, signal);
    discard(answer);
    if (answer.status === 404) return undefined;
    const digest = header(answer, 'docker-content-digest') ?? reference;
    return isDigest(digest) ? digest : undefined;
  }

  /** The bytes of a manifest as the target has them now; undefined if it is not there. @throws also `UPSTREAM_LIES` where it is too large */
  async readManifest(
    repository: string,
    reference: string,
    signal: AbortSignal,
  ): Promise<Buffer | undefined> {
    const answer = await this.#askManifest('GET', repository, reference, signal);
    if (answer.status === 404) {
      discard(answer);
      return undefined;
    }
    return await documentOf(answer, this.host, signal);
  }

  /** Whether the target lists what names a subject itself (distribution-spec, "Listing Referrers"). */
  async listsReferrers(repository: string, subject: Digest, signal: AbortSignal): Promise<boolean> {
    const url = this.#url(repository, `referrers/${subject}`);
    const call = { method: 'GET', url, repository, unknown: 'MANIFEST_UNKNOWN', item: subject } as const;
    // Gateways forbid what they do not know.
    const asked = { ...call, headers: { accept: OCI_INDEX }, accept: [200, 403, ...NO_REFERRERS_API] };
    const answer = await this.#send(asked, signal);
    if (answer.status === 200) return referrersOf(await documentOf(answer, this.host, signal)) !== undefined;
    discard(answer);
    return false;
  }

  async #askManifest(
    method: 'GET' | 'HEAD',
    repository: string,
    reference: string,
    signal: AbortSignal,
  ): Promise<Answer> {
    return await this.#send(
      {
        method,
        url: this.#url(repository, `manifests/${reference}`),
        repository,
        headers: { accept: MANIFEST_ACCEPT },
        accept: [200, 404],
        unknown: 'MANIFEST_UNKNOWN',
        item: reference,
      },
      signal,
    );
  }

  async hasBlob(repository: string, digest: Digest, signal: AbortSignal): Promise<boolean> {
    const url = this.#url(repository, `blobs/${digest}`);
    const call = { method: 'HEAD', url, repository, unknown: 'BLOB_UNKNOWN', item: digest } as const;
    // Storage behind the registry may answer with a redirect: the registry has it then.
    const answer = await this.#send({ ...call, accept: [...THERE, 404, ...NO_HEAD] }, signal);
    discard(answer);
    return THERE.includes(answer.status);
  }

  /**
   * Begins an upload; `mounted` if the target took the blob over from another of its repositories. A mount that it refuses (no right to
   * the other repository, or it is not there), or breaks at, is an upload like any other.
   */
  async begin(
    repository: string,
    mount: { readonly digest: Digest; readonly from: string } | undefined,
    signal: AbortSignal,
  ): Promise<{ readonly type: 'mounted' } | { readonly type: 'session'; readonly url: URL }> {
    const url = this.#url(repository, 'blobs/uploads/');
    const call = { method: 'POST', url, repository, unknown: 'REPOSITORY_UNKNOWN' } as const;
    const headers = { 'content-length': '0' };
    if (mount !== undefined) {
      url.searchParams.set('mount', mount.digest);
      url.searchParams.set('from', mount.from);
    }
    let answer: Answer;
    try {
      answer = await this.#send({ ...call, from: mount?.from, headers, accept: TAKEN }, signal);
    } catch (error) {
      throwIfBug(error);
      if (mount === undefined || !isRefusedMount(error)) throw error;
      return await this.begin(repository, undefined, signal);
    }
    discard(answer);
    if (answer.status === 201 && mount !== undefined) return { type: 'mounted' };
    return { type: 'session', url: this.#location(answer) };
  }

  /** Ends a session that nothing is sent into; one that cannot be ended is left to its registry. */
  async cancel(repository: string, session: URL, signal: AbortSignal): Promise<void> {
    const call = { method: 'DELETE', url: session, repository, unknown: 'UPLOAD_UNKNOWN' } as const;
    discard(await this.#send({ ...call, accept: TAKEN }, signal));
  }

  /**
   * Sends a blob into a session: small ones in one PUT, others in chunks, smaller ones where they are too large; a chunk that was cut
   * goes on where the target says that it stands. A target that takes none gets all of it in one PUT of another session, and so do the
   * next ones for a while. A session that the target lost is begun anew, the last time for one PUT: those of chunks alone may go; one that
   * ended well, and only its answer was lost, is not. @throws also `BACKEND_DOWN` where it loses each
   */
  async upload(blob: OutgoingBlob, session: URL, signal: AbortSignal): Promise<void> {
    for (let [lost, url] = [1, session]; ; lost += 1)
      try {
        if (lost === MAX_LOST && blob.sizeBytes > SINGLE_BYTES)
          this.#wholeUntilMs = this.#deps.nowMs() + NO_CHUNKS_MS;
        return await this.#into(blob, url, signal);
      } catch (error) {
        throwIfBug(error);
        signal.throwIfAborted();
        if (!isCoded(error, 'UPLOAD_UNKNOWN')) throw error;
        if (lost >= MAX_LOST) throw lostSessions(this.host, error);
        if (await this.hasBlob(blob.repository, blob.digest, signal)) return;
        const begun = await this.begin(blob.repository, undefined, signal);
        if (begun.type === 'session') url = begun.url;
      }
  }

  async #into(blob: OutgoingBlob, session: URL, signal: AbortSignal): Promise<void> {
    const { nowMs } = this.#deps;
    const isSmall = blob.sizeBytes <= Math.min(SINGLE_BYTES, this.#chunks.bytes(nowMs()));
    try {
      if (isSmall || nowMs() < this.#wholeUntilMs) return await this.#close(blob, session, 0, signal);
    } catch (error) {
      // Chunks may have been refused at a bad moment, and this one be too large for one request: the next try is in chunks.
      this.#wholeUntilMs = 0;
      if (!isTooLarge(error) || !this.#chunks.tooLarge(blob.sizeBytes, nowMs())) throw error;
      const begun = await this.begin(blob.repository, undefined, signal);
      if (begun.type === 'session') await this.#into(blob, begun.url, signal);
      return;
    }
    let isTaken = false;
    try {
      await this.#inChunks(blob, session, signal, () => {
        isTaken = true;
      });
    } catch (error) {
      throwIfBug(error);
      signal.throwIfAborted();
      // After a chunk that was taken an unknown session is one that was lost.
      if (isTaken && isCoded(error, 'UPLOAD_UNKNOWN')) throw error;
      if (!isCoded(error) || !NO_CHUNKS.includes(Number(error.detail['status']))) throw error;
      const begun = await this.begin(blob.repository, undefined, signal);
      if (begun.type === 'session') await this.#close(blob, begun.url, 0, signal);
      this.#wholeUntilMs = nowMs() + NO_CHUNKS_MS;
    }
  }

  async #inChunks(blob: OutgoingBlob, session: URL, signal: AbortSignal, onTaken: () => void): Promise<void> {
    let url = session;
    let offset = 0;
    let fruitless = 0;
    const { nowMs } = this.#deps;
    while (offset < blob.sizeBytes) {
      const end = Math.min(blob.sizeBytes, offset + this.#chunks.bytes(nowMs()));
      try {
        const answer = await this.#patch(blob, url, offset, end, signal);
        // Without a next address it is the same.
        if (header(answer, 'location') !== undefined) url = this.#location(answer);
        offset = end;
        fruitless = 0;
        onTaken();
      } catch (error) {
        throwIfBug(error);
        signal.throwIfAborted();
        const isSmaller = (): boolean => this.#chunks.tooLarge(end - offset, nowMs());
        if (isTooLarge(error) && isSmaller()) continue;
        if (!mayResume(error) || ++fruitless > MAX_FRUITLESS) throw error;
        const where = await this.#where(blob, url, signal);
        // It stands where the chunk begins: what it does not take is the chunk.
        if (isCoded(error, 'RANGE_INVALID') && where.offset === offset && !isSmaller()) throw error;
        if (where.offset > offset) fruitless = 0;
        ({ url, offset } = where);
      }
    }
    await this.#close(blob, url, offset, signal);
  }

  /** @returns the digest that the registry will list this manifest under as a referrer (`OCI-Subject`) */
  async putManifest(
    repository: string,
    reference: string,
    manifest: { readonly bytes: Uint8Array; readonly mediaType: string },
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const { bytes, mediaType } = manifest;
    const answer = await this.#send(
      {
        method: 'PUT',
        url: this.#url(repository, `manifests/${reference}`),
        repository,
        headers: { 'content-type': mediaType, 'content-length': String(bytes.length) },
        body: () => bytes,
        accept: TAKEN,
        unknown: 'REPOSITORY_UNKNOWN',
        item: reference,
      },
      signal,
    );
    discard(answer);
    return header(answer, 'oci-subject');
  }

  /** Deletes a tag, or a manifest by digest; one that is not there is fine. @throws also `METHOD_UNSUPPORTED` */
  async deleteManifest(repository: string, reference: string, signal: AbortSignal): Promise<void> {
    const url = this.#url(repository, `manifests/${reference}`);
    const what = { unknown: 'MANIFEST_UNKNOWN', item: reference } as const;
    const call = { method: 'DELETE', url, repository, ...what } as const;
    const answer = await this.#send({ ...call, accept: [200, 202, 204, 400, 404, 405] }, signal);
    discard(answer);
    if (answer.status === 400 || answer.status === 405)
      throw new CodedError('METHOD_UNSUPPORTED', {
        message: `${this.host} does not delete ${reference} (${answer.status}); deletion may be off there`,
        detail: { host: this.host, status: answer.status },
      });
  }

  async close(): Promise<void> {
    await this.#sockets.destroy(new CodedError('DRAINING', { message: 'target client is closed' }));
  }

  async #patch(
    blob: OutgoingBlob,
    url: URL,
    start: number,
    end: number,
    signal: AbortSignal,
  ): Promise<Answer> {
    const headers = {
      'content-type': 'application/octet-stream',
      'content-length': String(end - start),
      'content-range': `${start}-${end - 1}`,
    };
    const { repository, digest } = blob;
    const call = { method: 'PATCH', url, repository, unknown: 'UPLOAD_UNKNOWN', item: digest } as const;
    const answer = await this.#send(
      { ...call, headers, body: () => blob.open(start, end), accept: TAKEN },
      signal,
    );
    discard(answer);
    return answer;
  }

  async #close(blob: OutgoingBlob, session: URL, offset: number, signal: AbortSignal): Promise<void> {
    const { repository, digest, sizeBytes } = blob;
    const url = new URL(session);
    // What is there stays as it is written: it may be signed.
    url.search += `${url.search === '' ? '?' : '&'}digest=${encodeURIComponent(digest)}`;
    const headers = {
      'content-type': 'application/octet-stream',
      'content-length': String(sizeBytes - offset),
    };
    const body = offset < sizeBytes ? () => blob.open(offset, sizeBytes) : undefined;
    const call = { method: 'PUT', url, repository, unknown: 'UPLOAD_UNKNOWN', item: digest } as const;
    discard(await this.#send({ ...call, headers, body, accept: TAKEN }, signal));
  }

  /** Where a session stands. `Range: 0-0` of an empty one cannot be told from one byte: the target refuses then, and all begins anew. */
  async #where(blob: OutgoingBlob, url: URL, signal: AbortSignal): Promise<{ url: URL; offset: number }> {
    const { repository, digest } = blob;
    const call = { method: 'GET', url, repository, unknown: 'UPLOAD_UNKNOWN', item: digest } as const;
    const answer = await this.#send({ ...call, accept: [200, 202, 204] }, signal);
    discard(answer);
    const last = Number(
      /^(?:bytes[= ])?0-(\d{1,15})(?:\/.*)?$/.exec(header(answer, 'range') ?? '')?.[1] ?? 0,
    );
    const offset = last === 0 ? 0 : last + 1;
    if (offset > blob.sizeBytes)
      throw new CodedError('UPLOAD_UNKNOWN', { message: `${this.host} has more bytes than were sent` });
    return { url: header(answer, 'location') === undefined ? url : this.#location(answer), offset };
  }

  /** One request; those to the target itself are repeated once with fresh authorization after a 401. */
  async #send(call: Call, signal: AbortSignal): Promise<Answer> {
    const isOwn = call.url.origin === this.#base.origin;
    const send = async (authorization: string | undefined): Promise<Answer> =>
      await this.#once(call, authorization, signal);
    const answer = isOwn
      ? await this.#authority.ask(this.#auth, scopeOf(call), send, signal)
      : await send(undefined);
    if (call.accept.includes(answer.status)) return answer;
    const { unknown, item } = call;
    const subject = { upstream: this.#deps.upstream, repository: call.repository, unknown };
    throw await failureOf(answer, item === undefined ? subject : { ...subject, item }, {
      nowMs: this.#deps.nowMs(),
      foreign: !isOwn,
    });
  }

  async #once(call: Call, authorization: string | undefined, signal: AbortSignal): Promise<Answer> {
    const body = call.body?.();
    const headers = {
      'user-agent': USER_AGENT,
      'accept-encoding': 'identity',
      ...call.headers,
      ...(authorization === undefined ? {} : { authorization }),
    };
    const deps = {
      dispatcher: this.#sockets.for(call.url, 'redirect'),
      gate: this.#gate,
      headersTimeoutMs: body === undefined ? TARGET_READ_MS : TARGET_HEADERS_MS,
      bodyTimeoutMs: TARGET_READ_MS,
    };
    const once = carriesPassword(authorization);
    return await exchange(deps, { url: call.url, method: call.method, headers, body, once }, signal);
  }

  #url(repository: string, path: string): URL {
    const url = apiUrl(this.#base, `${repository}/${path}`);
    if (this.#deps.ns !== undefined) url.searchParams.set('ns', this.#deps.ns);
    return url;
  }

  /** The next address of a session; one of the same host that lost its https on the way keeps ours. */
  #location(answer: Answer): URL {
    // As for a redirect: http(s) only, no credentials inside, and to another host not from https to http.
    const redirect = { ...answer, status: 307 };
    const found = redirectTarget(redirect, true)!;
    if (found.host !== this.#base.host) return redirectTarget(redirect, this.#deps.insecure)!;
    found.protocol = this.#base.protocol;
    return found;
  }
}
