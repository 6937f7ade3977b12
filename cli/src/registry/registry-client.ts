import { Readable } from 'node:stream';
import { backoffMs } from '@sepia/base/async/backoff';
import { type Digest, Digester, digestAlgorithm, digestOf, isDigest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import { readLimited } from '@sepia/http/client';
import type { Dispatcher } from '@sepia/http/sockets';
import { MANIFEST_ACCEPT, MAX_MANIFEST_BYTES } from '@sepia/oci/manifest';
import type { Authenticator } from '@sepia/upstream/authenticator';
import type { CredentialSource, Credentials } from '@sepia/upstream/credentials/source';
import { follow } from '@sepia/upstream/redirect';
import { request } from 'undici';
import { BODY_MS, COLD_BLOB_MS, MAX_PULL_REST_MS, PULL_REST_MS } from '../deadlines.ts';
import { errorOf, headerOf } from './answered-error.ts';
import { clientAuth, refusedText, scopeOf } from './client-auth.ts';
import type { HttpProxies } from './http-proxies.ts';

interface RegistryClientDeps {
  readonly dispatcher: Dispatcher;
  /** Between here and what they are named for; undefined: all is reached straight. */
  readonly proxies?: HttpProxies;
}

interface RegistryClientOptions {
  /** Base URL of the registry endpoint. */
  readonly url: string;
  /** Registry that the names belong to, sent as containerd sends it to a mirror. */
  readonly ns?: string | undefined;
  /** What to do when nobody answers at `url`; ends the error message. */
  readonly hint?: string;
  /** Account at the registry, used once it asks for one. */
  readonly credentials?: CredentialSource | undefined;
}

/** Its bytes match `digest`. */
export interface PulledManifest {
  readonly bytes: Buffer;
  readonly digest: Digest;
  readonly mediaType: string;
}

/** A blob that a push can send more than once: each try opens it anew. */
export interface BlobSource {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** A new stream of its bytes at each call. */
  readonly open: () => Readable;
}

type Answer = Dispatcher.ResponseData;

/** Requests in a row that bring no byte until a pull fails. */
const MAX_FRUITLESS = 4;

/** Pulls and pushes over the OCI distribution API, as containerd does: by digest, verified, resumed by Range. */
export class RegistryClient {
  readonly #deps: RegistryClientDeps;
  readonly #options: RegistryClientOptions;
  readonly #auth: Authenticator;
  /** The account that was shown last. */
  #shown: Credentials | undefined;

  constructor(deps: RegistryClientDeps, options: RegistryClientOptions) {
    this.#deps = deps;
    this.#options = options;
    const { url, credentials: source } = options;
    const credentials = source === undefined ? undefined : this.#noting(source);
    this.#auth = clientAuth({ url, credentials, proxyFor: (to) => deps.proxies?.addressFor(to) });
  }

  #noting(source: CredentialSource): CredentialSource {
    const current = async (): Promise<Credentials | undefined> => (this.#shown = await source.current());
    return { current, refused: (credentials) => source.refused(credentials) };
  }

  /** HEAD by tag, then GET by digest; the bytes match the digest. @throws {CodedError} what the registry answered, `DIGEST_MISMATCH` */
  async pullManifest(repository: string, reference: string, signal?: AbortSignal): Promise<PulledManifest> {
    const accept = { accept: MANIFEST_ACCEPT };
    const call = { repository, headers: accept, signal };
    const head = isDigest(reference)
      ? undefined
      : await this.#raw('HEAD', `/v2/${repository}/manifests/${reference}`, call);
    await head?.body.dump();
    // A refused HEAD does not say why; the GET does.
    const named = head?.statusCode === 200 ? headerOf(head, 'docker-content-digest') : undefined;
    const wanted = isDigest(reference) ? reference : named;
    const answer = await this.#ask('GET', `/v2/${repository}/manifests/${wanted ?? reference}`, {
      repository,
      headers: accept,
      signal,
    });
    const bytes = await readLimited(answer.body, MAX_MANIFEST_BYTES, this.#options.url);
    const digest = wanted !== undefined && isDigest(wanted) ? wanted : digestOf(bytes);
    const found = digestOf(bytes, digestAlgorithm(digest));
    if (found !== digest)
      throw new CodedError('DIGEST_MISMATCH', {
        message: `manifest ${reference} does not match its digest`,
        detail: { expected: digest, found },
      });
    return { bytes, digest, mediaType: headerOf(answer, 'content-type')?.split(';')[0]?.trim() ?? '' };
  }

  /**
   * Reads a blob to its end and checks size and digest. `take` gets every chunk once, in order (the chunk is the
   * taker's). A cut body is resumed by Range as long as bytes come; a registry that fails is asked four times.
   * @throws {CodedError} what the registry answered, `DIGEST_MISMATCH`, `SIZE_MISMATCH`
   */
  async pullBlob(
    repository: string,
    blob: { readonly digest: Digest; readonly sizeBytes: number },
    take: (chunk: Buffer) => void | Promise<void>,
    signal?: AbortSignal,
  ): Promise<void> {
    const digester = new Digester(digestAlgorithm(blob.digest));
    let offset = 0;
    let fruitless = 0;
    do {
      const before = offset;
      let failure: unknown;
      if (fruitless > 0) await delay(backoffMs(fruitless, PULL_REST_MS, MAX_PULL_REST_MS), signal);
      try {
        for await (const chunk of await this.#blobFrom(repository, blob.digest, offset, signal)) {
          offset += chunk.length;
          if (offset > blob.sizeBytes) throw longer(blob);
          digester.update(chunk);
          await take(chunk);
        }
      } catch (error) {
        throwIfBug(error);
        signal?.throwIfAborted();
        if (isCoded(error) && !isCoded(error, 'REGISTRY_DOWN') && !isCoded(error, 'PEER_HTTP')) throw error;
        failure = error;
      }
      fruitless = offset > before ? 0 : fruitless + 1;
      if (offset < blob.sizeBytes && fruitless >= MAX_FRUITLESS) throw failure ?? cut(blob, offset);
    } while (offset < blob.sizeBytes);
    const found = digester.digest();
    if (found !== blob.digest)
      throw new CodedError('DIGEST_MISMATCH', {
        message: `blob does not match its digest ${blob.digest}`,
        detail: { expected: blob.digest, found },
      });
  }

  /** True if the registry has the blob in this repository; whatever else it answers counts as no, also where it leads to nobody. */
  async hasBlob(repository: string, digest: Digest, signal?: AbortSignal): Promise<boolean> {
    try {
      const head = await this.#raw('HEAD', `/v2/${repository}/blobs/${digest}`, { repository, signal });
      await head.body.dump();
      return head.statusCode === 200;
    } catch (error) {
      const isLed = isCoded(error) && error.detail['ledBy'] === new URL(this.#options.url).host;
      if (isLed || isCoded(error, 'BACKEND_DOWN')) return false;
      throw error;
    }
  }

  /** Uploads a blob unless the registry has it. @returns false if it was there */
  async pushBlob(repository: string, blob: BlobSource, signal?: AbortSignal): Promise<boolean> {
    if (await this.hasBlob(repository, blob.digest, signal)) return false;
    const base = new URL(this.#options.url);
    const uploads = new URL(`/v2/${repository}/blobs/uploads/`, base);
    const begun = await this.#ask('POST', uploads, {
      repository,
      headers: { 'content-length': '0' },
      signal,
    });
    await begun.body.dump();
    const location = headerOf(begun, 'location');
    if (location === undefined)
      throw new CodedError('REGISTRY_DOWN', {
        message: `${this.#options.url} began an upload without a Location`,
      });
    const target = URL.canParse(location, uploads.href) ? new URL(location, uploads) : undefined;
    if (target === undefined || !/^https?:$/.test(target.protocol))
      throw new CodedError('REGISTRY_DOWN', {
        message: `${this.#options.url} began an upload at a Location that is no URL of http`,
      });
    // A registry that does not know of the TLS before it calls itself by http.
    if (target.host === base.host) target.protocol = base.protocol;
    // What is there stays as it is written: it may be signed.
    target.search += `${target.search === '' ? '?' : '&'}digest=${encodeURIComponent(blob.digest)}`;
    const headers = { 'content-length': String(blob.sizeBytes), 'content-type': 'application/octet-stream' };
    const done = await this.#ask('PUT', target, { repository, headers, body: blob.open(), signal });
    await done.body.dump();
    return true;
  }

  /** @returns the digest under which it is stored */
  async pushManifest(
    repository: string,
    reference: string,
    bytes: Uint8Array,
    mediaType: string,
    signal?: AbortSignal,
  ): Promise<Digest> {
    const answer = await this.#ask('PUT', `/v2/${repository}/manifests/${reference}`, {
      repository,
      headers: { 'content-type': mediaType },
      body: bytes,
      signal,
    });
    await answer.body.dump();
    return digestOf(bytes);
  }

  async #blobFrom(
    repository: string,
    digest: Digest,
    offset: number,
    signal: AbortSignal | undefined,
  ): Promise<AsyncIterable<Buffer>> {
    const headers: Record<string, string> = offset === 0 ? {} : { range: `bytes=${offset}-` };
    const answer = await this.#raw('GET', `/v2/${repository}/blobs/${digest}`, {
      repository,
      headers,
      signal,
    });
    if (answer.statusCode === 416) {
      await answer.body.dump();
      throw new CodedError('SIZE_MISMATCH', {
        message: `blob ${digest} has ${offset} bytes; the manifest says more`,
      });
    }
    if (answer.statusCode >= 400) throw await this.#errorOf(answer);
    return skipping(answer.body as AsyncIterable<Buffer>, answer.statusCode === 206 ? 0 : offset);
  }

  async #errorOf(answer: Answer): Promise<CodedError> {
    // An identity token is no password: it was not shown.
    const username = this.#shown?.isIdentityToken === true ? undefined : this.#shown?.username;
    return await errorOf({ url: this.#options.url, username }, answer);
  }

  /** @throws {CodedError} the error that the registry named */
  async #ask(method: Dispatcher.HttpMethod, path: string | URL, call: Call): Promise<Answer> {
    const answer = await this.#raw(method, path, call);
    if (answer.statusCode < 400) return answer;
    throw await this.#errorOf(answer);
  }

  /** Sends a request; what is read may be elsewhere, as registries keep blobs in storage of others. */
  async #raw(method: Dispatcher.HttpMethod, path: string | URL, call: Call): Promise<Answer> {
    const home = new URL(this.#options.url);
    const url = new URL(path, home);
    // Where an upload goes on may be another host: an account is shown to the registry alone.
    if (method !== 'GET' && method !== 'HEAD')
      return url.origin === home.origin
        ? await this.#known(method, url, call)
        : await this.#send(method, url, call, undefined);
    if (this.#options.ns !== undefined) url.searchParams.set('ns', this.#options.ns);
    let answer: Answer | undefined;
    const journey = { name: home.host, upstream: home.host, first: url, home, allowPlain: false };
    await follow(journey, async (at, mayShow) => {
      answer = await (mayShow ? this.#known(method, at, call) : this.#send(method, at, call, undefined));
      const { statusCode: status, headers, body } = answer;
      // Of an answer that is let go it would otherwise be uncaught; readers see it when they read.
      body.on('error', () => undefined);
      return { url: at, method: method === 'HEAD' ? 'HEAD' : 'GET', status, headers, body };
    });
    return answer!;
  }

  /** A request to the registry itself, once more with an account where it asks for one. */
  async #known(method: Dispatcher.HttpMethod, url: URL, call: Call): Promise<Answer> {
    const scope = scopeOf(call.repository, method);
    const signal = call.signal ?? AbortSignal.timeout(COLD_BLOB_MS);
    const sent = await this.#authorized(this.#auth.header(scope, signal));
    const answer = await this.#send(method, url, call, sent);
    if (answer.statusCode !== 401 || call.body instanceof Readable) return answer;
    const next = await this.#authorized(
      this.#auth.afterRefusal(scope, sent, answer.headers['www-authenticate'], signal),
    );
    if (next === undefined) return answer;
    await answer.body.dump();
    return await this.#send(method, url, call, next);
  }

  /** A token service that refuses an account says it of that account. */
  async #authorized(header: Promise<string | undefined>): Promise<string | undefined> {
    try {
      return await header;
    } catch (error) {
      throwIfBug(error);
      const { url } = this.#options;
      // Without a scope it is another refusal than the token service's: one that was not asked, say.
      const isRefused = isCoded(error, 'UPSTREAM_DENIED') && error.detail['scope'] !== undefined;
      if (this.#shown === undefined || !isRefused) throw error;
      throw new CodedError('AUTH_DENIED', {
        message: `${url}: ${refusedText(this.#shown)}`,
        cause: error,
      });
    }
  }

  async #send(
    method: Dispatcher.HttpMethod,
    url: URL,
    call: Call,
    authorization: string | undefined,
  ): Promise<Answer> {
    const dispatcher = this.#deps.proxies?.socketsFor(url) ?? this.#deps.dispatcher;
    try {
      return await request(url, {
        method,
        dispatcher,
        headers: {
          ...call.headers,
          'user-agent': 'sepia',
          ...(authorization === undefined ? {} : { authorization }),
        },
        body: call.body ?? null,
        headersTimeout: COLD_BLOB_MS,
        bodyTimeout: BODY_MS,
        signal: call.signal ?? null,
      });
    } catch (cause) {
      throwIfBug(cause);
      call.signal?.throwIfAborted();
      const home = new URL(this.#options.url);
      const isHome = url.origin === home.origin;
      const hint = isHome ? this.#options.hint : `${home.host} leads there`;
      throw new CodedError('REGISTRY_DOWN', {
        message: `${url.origin} does not answer (${(cause as Error).message})${hint === undefined ? '' : `; ${hint}`}`,
        cause,
        detail: isHome ? {} : { ledBy: home.host },
      });
    }
  }
}

interface Call {
  readonly repository: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Readable | Uint8Array;
  readonly signal?: AbortSignal | undefined;
}

function longer(blob: { readonly digest: Digest; readonly sizeBytes: number }): CodedError {
  return new CodedError('SIZE_MISMATCH', {
    message: `blob ${blob.digest} is longer than ${blob.sizeBytes} bytes`,
  });
}

function cut(blob: { readonly digest: Digest }, offset: number): CodedError {
  return new CodedError('REGISTRY_DOWN', {
    message: `blob ${blob.digest} ends at ${offset} bytes again and again`,
  });
}

/** A registry that ignores Range sends everything again: the first `count` bytes are left out. */
async function* skipping(body: AsyncIterable<Buffer>, count: number): AsyncGenerator<Buffer> {
  let left = count;
  for await (const chunk of body) {
    if (left >= chunk.length) {
      left -= chunk.length;
      continue;
    }
    yield left === 0 ? chunk : chunk.subarray(left);
    left = 0;
  }
}
