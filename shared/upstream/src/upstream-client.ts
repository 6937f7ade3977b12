import { type Digest, isDigest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { ClusterUpstream } from '@sepia/cluster/cluster';
import { wholeBody } from '@sepia/http/bodies/whole-body';
import type { Resolve } from '@sepia/http/names/lookup';
import { liveTls } from '@sepia/http/tls/tls-texts';
import { MANIFEST_ACCEPT, MAX_MANIFEST_BYTES, OCI_INDEX } from '@sepia/oci/manifest';
import { referenceText } from '@sepia/oci/route';
import type { BearerChallenge } from '@sepia/oci/www-authenticate';
import { blobSizeOf, mediaTypeOf, nextQuery, statedLengthOf, tagsOf } from './answer-facts.ts';
import type { Authorizer, UpstreamChallenge } from './authenticator.ts';
import { blobOf } from './blob-body.ts';
import { flowing } from './bodies/flowing.ts';
import { caOf, defined, headOrGet, helpsToGet, homeOf, isHeadRefused, proxiesOf } from './client-setup.ts';
import { contentOf } from './content-coding.ts';
import type { ProxyEnvironment } from './core/proxy-choice.ts';
import type { Identity } from './credentials/open.ts';
import type { Credentials } from './credentials/source.ts';
import { NO_HEAD_MS } from './deadlines/upstreams.ts';
import { type Answer, discard, down, header, isCutUnderUs } from './exchange.ts';
import { NO_HEAD } from './failure.ts';
import { checkDigest, checkManifest, manifestBytes } from './manifest-check.ts';
import {
  type BlobQuery,
  type BlobWish,
  type ManifestQuery,
  type TagPage,
  type TagsQuery,
  UPSTREAM_CLIENT_DEFAULTS,
  type UpstreamBlob,
  type UpstreamClientOptions,
  type UpstreamManifest,
  type UpstreamManifestHead,
} from './queries.ts';
import {
  NO_REFERRERS_API,
  type ReferrerEntry,
  referrersOf,
  referrersTag,
} from './referrers/referrer-list.ts';
import type { GivenAnswer } from './token.ts';
import { type NamesOf, type RegistryRead, type RegistryReader, Transport } from './transport.ts';

interface UpstreamClientDeps {
  readonly upstream: ClusterUpstream;
  /** Who asks, and what the HTTP proxy before the upstream is told; default nobody. */
  readonly identity?: Partial<Identity> | undefined;
  readonly log: Logger;
  readonly nowMs: () => number;
  /** PEM certificates trusted beside the system's; without it the file `upstream.ca` is read. */
  readonly ca?: string | undefined;
  /** What the environment says of HTTP proxies; default nothing. */
  readonly proxies?: ProxyEnvironment | undefined;
  readonly resolve?: Resolve | undefined;
  /** Connections of another client to share. */
  readonly reader?: RegistryReader;
  /** In whose name repositories are read, where `credentials` are not all there is. */
  readonly names?: NamesOf | undefined;
}

const MAX_TAGS_ANSWER_BYTES = 16 * 1024 * 1024;
const OCTETS = '*/*';
const NO_PROXIES: ProxyEnvironment = { http: undefined, https: undefined, none: undefined };
/** Answers of registries that send fewer tags in one page than they are asked for; they know best how many. */
const TOO_MANY = [400, 413, 422];
const MAX_REFERRER_PAGES = 20;

/**
 * Reads one upstream registry. Every method takes the caller's deadline as `signal` and throws its reason when it
 * is aborted; all other failures are coded: `UPSTREAM_DENIED` (401, 403 and other refusals), `UPSTREAM_POLICY` (412), `MANIFEST_UNKNOWN`,
 * `BLOB_UNKNOWN`, `REPOSITORY_UNKNOWN` (404), `UPSTREAM_LIMITED` (429, with `detail.retryAfterSeconds`; requests
 * of the same kind fail at once until then), `BACKEND_DOWN` (5xx, refused, cut, silent), `UPSTREAM_LIES` (wrong bytes).
 */
export class UpstreamClient {
  readonly #name: string;
  readonly #transport: RegistryReader;
  readonly #deps: UpstreamClientDeps;
  /** Until when it counts that blobs which may be read answer no HEAD here, as was seen. */
  #noHeadUntilMs = 0;

  /** @throws {CodedError} `CONFIG_INVALID` when the upstream has no url or its `ca` cannot be read */
  constructor(deps: UpstreamClientDeps, options: UpstreamClientOptions = {}) {
    const { upstream } = deps;
    if (upstream.url === undefined)
      throw new CodedError('CONFIG_INVALID', {
        message: `upstreams: ${upstream.name} has mode none and no url to read from`,
      });
    this.#name = upstream.name;
    this.#deps = deps;
    if (deps.reader !== undefined) {
      this.#transport = deps.reader;
      return;
    }
    const { name, url, insecure, proxy } = upstream;
    const { credentials, certificate, key, proxyAuthorization } = deps.identity ?? {};
    const { log, nowMs, names, resolve } = deps;
    const tls = liveTls(deps, { ca: deps.ca ?? caOf(upstream), certificate, key });
    const proxyFor = proxiesOf(proxy, proxyAuthorization, deps.proxies ?? NO_PROXIES);
    const home = homeOf({ ...upstream, url });
    this.#transport = new Transport(
      { upstream: name, home, credentials, tls, insecure, proxyFor, resolve, log, nowMs, names },
      {
        ...UPSTREAM_CLIENT_DEFAULTS,
        ...defined(options),
        connections: upstream['max-connections'],
        perSecond: upstream['requests-per-second'],
      },
    );
  }

  /** This client with a token that a caller brought, in place of its own credentials. */
  as(authorization: string): UpstreamClient {
    return new UpstreamClient({ ...this.#deps, reader: this.#transport.as(authorization) });
  }

  /** Asks as the configured credentials say. */
  get own(): Authorizer {
    return this.#transport.own;
  }

  /** Asks in the name of these credentials, or of nobody; for the `as` of queries. */
  authorizer(credentials: Credentials | undefined): Authorizer {
    return this.#transport.authorizer(credentials);
  }

  /** What `/v2/` itself asks for, undefined where it lets everybody in. @throws {CodedError} `BACKEND_DOWN` */
  async baseChallenge(signal: AbortSignal): Promise<UpstreamChallenge | undefined> {
    return await this.#transport.baseChallenge(signal);
  }

  /** A token from the realm that the upstream's own challenge named. @throws {CodedError} `UPSTREAM_DENIED`, `UPSTREAM_LIMITED`, `BACKEND_DOWN` */
  async token(
    challenge: BearerChallenge,
    scopes: readonly string[],
    credentials: Credentials | undefined,
  ): Promise<GivenAnswer> {
    return await this.#transport.token(challenge, scopes, credentials);
  }

  /**
   * A whole manifest, at most 4 MiB. By digest the bytes are checked against it; by tag they must be a manifest.
   * With `ifDigest` the answer is undefined when the upstream says that it still is that one.
   */
  getManifest(
    query: ManifestQuery & { readonly ifDigest?: undefined },
    signal: AbortSignal,
  ): Promise<UpstreamManifest>;
  getManifest(
    query: ManifestQuery & { readonly ifDigest?: Digest | undefined },
    signal: AbortSignal,
  ): Promise<UpstreamManifest | undefined>;
  async getManifest(
    query: ManifestQuery & { readonly ifDigest?: Digest | undefined },
    signal: AbortSignal,
  ): Promise<UpstreamManifest | undefined> {
    return await this.#manifest(query, signal, true);
  }

  async #manifest(
    query: ManifestQuery & { readonly ifDigest?: Digest | undefined },
    signal: AbortSignal,
    mayRepeat: boolean,
  ): Promise<UpstreamManifest | undefined> {
    const condition: Record<string, string> =
      query.ifDigest === undefined ? {} : { 'if-none-match': `"${query.ifDigest}"` };
    const answer = await this.#transport.read(
      { ...this.#manifestCall('GET', query, condition), accept: query.ifDigest === undefined ? [] : [304] },
      signal,
    );
    if (answer.status === 304) {
      discard(answer);
      return undefined;
    }
    let sent: Buffer;
    try {
      sent = await this.#readBody(answer, MAX_MANIFEST_BYTES, signal, answer.body);
    } catch (error) {
      if (!mayRepeat || !isCutUnderUs(error)) throw error;
      // A blob is gone on with where it was cut; of a body as small as this all is asked for again, once.
      return await this.#manifest(query, signal, false);
    }
    const bytes = await manifestBytes(query, answer, sent);
    return { ...checkManifest(this.#name, query, answer, bytes), headers: answer.headers };
  }

  /**
   * Digest, type and size of a manifest; falls back to GET where HEAD is refused, fails, is silent, knows of none or tells no digest: some
   * registries and gateways know of manifests by GET alone.
   */
  async headManifest(query: ManifestQuery, signal: AbortSignal): Promise<UpstreamManifestHead> {
    const call = { ...this.#manifestCall('HEAD', query, {}), accept: NO_HEAD };
    const head = async (abort: AbortSignal, waiting: RegistryRead['waiting']) => {
      const answer = await this.#transport.read({ ...call, waiting }, abort);
      discard(answer);
      const digest = header(answer, 'docker-content-digest') ?? '';
      if (answer.status !== 200 || !isDigest(digest)) return undefined;
      checkDigest(this.#name, query, digest);
      return { digest, mediaType: mediaTypeOf(answer), sizeBytes: statedLengthOf(answer) };
    };
    const get = async (abort: AbortSignal): Promise<UpstreamManifestHead> => {
      const { bytes, ...manifest } = await this.getManifest(query, abort);
      return { digest: manifest.digest, mediaType: manifest.mediaType, sizeBytes: bytes.length };
    };
    return await headOrGet({ head, get }, signal);
  }

  /**
   * Whether the upstream has a blob, and its size where it tells. Falls back to GET, closed after its headers:
   * a Harbor proxy project answers HEAD of a blob that it has not cached with 404, public ECR always with 401.
   */
  async headBlob(query: BlobQuery, signal: AbortSignal): Promise<{ sizeBytes: number | undefined }> {
    let isRefused = false;
    try {
      if (this.#deps.nowMs() >= this.#noHeadUntilMs) {
        const answer = await this.#transport.read(this.#blobCall('HEAD', query, {}), signal);
        discard(answer);
        const sizeBytes = blobSizeOf(answer, query.digest);
        if (sizeBytes !== undefined) return { sizeBytes };
      }
    } catch (error) {
      if (!helpsToGet(error)) throw error;
      isRefused = isHeadRefused(error);
    }
    const blob = await this.getBlob(query, signal);
    blob.body.destroy();
    if (isRefused) this.#noHeadUntilMs = this.#deps.nowMs() + NO_HEAD_MS;
    return { sizeBytes: blob.sizeBytes };
  }

  /** The bytes of a blob, or a part of them; not checked against the digest (see `BlobBody`). */
  async getBlob(query: BlobWish, signal: AbortSignal): Promise<UpstreamBlob> {
    const { range } = query;
    const headers: Record<string, string> =
      range === undefined ? {} : { range: `bytes=${range.start}-${range.end ?? ''}` };
    const answer = await this.#transport.read(
      { ...this.#blobCall('GET', query, headers), accept: [206] },
      signal,
    );
    return blobOf(answer, query, this.#name, signal);
  }

  /** One page of a repository's tags, as many as the upstream sends; names that are no tags are left out. */
  async listTags(query: TagsQuery, signal: AbortSignal): Promise<TagPage> {
    const { as, unwanted, page, n } = query;
    const search = page ?? (n === undefined ? undefined : `n=${n}`);
    const path = search === undefined ? 'tags/list' : `tags/list?${search}`;
    const subject = {
      upstream: this.#name,
      repository: query.repository,
      unknown: 'REPOSITORY_UNKNOWN',
    } as const;
    const headers = { accept: 'application/json' };
    const call = { method: 'GET', path, headers, subject, kind: 'tags', as, unwanted } as const;
    const isFirst = page === undefined && n !== undefined;
    const answer = await this.#transport.read({ ...call, accept: isFirst ? TOO_MANY : [] }, signal);
    if (answer.status !== 200) {
      discard(answer);
      return await this.listTags({ ...query, n: undefined }, signal);
    }
    const bytes = await this.#readBody(answer, MAX_TAGS_ANSWER_BYTES, signal);
    const tags = tagsOf(bytes);
    if (tags === undefined)
      throw new CodedError('UPSTREAM_LIES', {
        message: `${answer.url.host} sent no tag list`,
        detail: { ...subject },
      });
    return { tags, next: nextQuery(answer.headers['link']) };
  }

  /**
   * What names `digest` as its subject, at most `limit`: from the referrers API, else from the referrers tag; nothing
   * where the upstream has neither.
   */
  async listReferrers(
    query: BlobQuery & { readonly limit: number },
    signal: AbortSignal,
  ): Promise<ReferrerEntry[]> {
    const { repository, digest, limit } = query;
    const subject = { upstream: this.#name, repository, unknown: 'MANIFEST_UNKNOWN', item: digest } as const;
    const headers = { accept: OCI_INDEX };
    const all: ReferrerEntry[] = [];
    let search: string | undefined = '';
    for (let page = 0; search !== undefined && page < MAX_REFERRER_PAGES && all.length < limit; page++) {
      const path = `referrers/${digest}${search === '' ? '' : `?${search}`}`;
      const call = { method: 'GET', path, headers, subject, kind: 'tags' } as const;
      const answer = await this.#referrersPage({ ...call, accept: NO_REFERRERS_API }, page, signal);
      if (answer === undefined) return await this.#taggedReferrers(query, signal);
      const bytes =
        answer.status === 200 ? await this.#readBody(answer, MAX_TAGS_ANSWER_BYTES, signal) : undefined;
      if (bytes === undefined) discard(answer);
      const found = bytes === undefined ? undefined : referrersOf(bytes);
      if (found === undefined && page === 0) return await this.#taggedReferrers(query, signal);
      if (found === undefined)
        throw new CodedError('UPSTREAM_LIES', {
          message: `${answer.url.host} sent no further page of referrers, although it named one`,
          detail: { ...subject, status: answer.status },
        });
      all.push(...found);
      search = nextQuery(answer.headers['link']);
    }
    return all.slice(0, limit);
  }

  /** Undefined where the registry forbids what it does not know, as gateways before it do: the tag says whether it may be read. A further page that it forbids is a part missing. */
  async #referrersPage(call: RegistryRead, page: number, signal: AbortSignal): Promise<Answer | undefined> {
    try {
      return await this.#transport.read(call, signal);
    } catch (error) {
      if (page === 0 && isCoded(error, 'UPSTREAM_DENIED') && error.detail['status'] === 403) return undefined;
      throw error;
    }
  }

  async #taggedReferrers(query: BlobQuery, signal: AbortSignal): Promise<ReferrerEntry[]> {
    const reference = { kind: 'tag', tag: referrersTag(query.digest) } as const;
    try {
      const { bytes, digest } = await this.getManifest({ repository: query.repository, reference }, signal);
      // Some registries read such a tag as the digest: what they send is what was asked about, and names its own parts.
      return digest === query.digest ? [] : (referrersOf(bytes) ?? []);
    } catch (error) {
      if (isCoded(error, 'MANIFEST_UNKNOWN') || isCoded(error, 'REPOSITORY_UNKNOWN')) return [];
      throw error;
    }
  }

  /** Cuts what is under way. Idempotent. */
  async close(): Promise<void> {
    await this.#transport.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #manifestCall(
    method: 'GET' | 'HEAD',
    query: ManifestQuery,
    headers: Readonly<Record<string, string>>,
  ): RegistryRead {
    const item = referenceText(query.reference);
    return {
      method,
      path: `manifests/${item}`,
      headers: { ...headers, accept: query.accept ?? MANIFEST_ACCEPT },
      subject: { upstream: this.#name, repository: query.repository, unknown: 'MANIFEST_UNKNOWN', item },
      kind: 'manifest',
      as: query.as,
      unwanted: query.unwanted,
    };
  }

  #blobCall(
    method: 'GET' | 'HEAD',
    query: BlobQuery,
    headers: Readonly<Record<string, string>>,
  ): RegistryRead {
    return {
      method,
      path: `blobs/${query.digest}`,
      headers: { ...headers, accept: OCTETS },
      subject: {
        upstream: this.#name,
        repository: query.repository,
        unknown: 'BLOB_UNKNOWN',
        item: query.digest,
      },
      kind: 'blob',
      as: query.as,
      unwanted: query.unwanted,
    };
  }

  /** Reads a body to memory. @throws {CodedError} `UPSTREAM_LIES` when it is larger than `limitBytes`, `BACKEND_DOWN` when cut or too slow */
  async #readBody(
    answer: Answer,
    limitBytes: number,
    signal: AbortSignal,
    body: AsyncIterable<Uint8Array> = contentOf(answer),
  ): Promise<Buffer> {
    const tooLarge = (): CodedError =>
      new CodedError('UPSTREAM_LIES', {
        message: `answer of ${answer.url.host} is larger than ${limitBytes} bytes`,
        detail: { upstream: this.#name, limitBytes },
      });
    try {
      return await wholeBody(flowing(answer.url.host, body), limitBytes, tooLarge);
    } catch (error) {
      throwIfBug(error);
      if (signal.aborted) throw signal.reason;
      throw error instanceof CodedError && error.code !== 'TIMEOUT' ? error : down(answer.url, error);
    }
  }
}
