import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
} from 'node:http';
import { createServer as createTlsServer, type ServerOptions } from 'node:https';
import type { AddressInfo } from 'node:net';
import { type Digest, digestOf } from '@sepia/base/digest';
import { type FakeAuth, FakeAuthority } from './fake-upstream-auth.ts';
import type { FakeImage, FakeIndex, FakeManifest } from './fake-upstream-image.ts';
import { type AccessEntry, oci, refused, send } from './fake-upstream-send.ts';
import { type Faults, type RequestKind, type Rule, Rules } from './misbehave.ts';

export type { FakeAuth } from './fake-upstream-auth.ts';
export {
  type FakeImage,
  type FakeIndex,
  type FakeManifest,
  makeImage,
  makeIndex,
  seededBytes,
} from './fake-upstream-image.ts';
export type { AccessEntry } from './fake-upstream-send.ts';
export type { Misbehaviour, Rule } from './misbehave.ts';

interface FakeUpstreamOptions {
  readonly auth?: FakeAuth;
  /** Serves the registry by TLS; it may ask for a certificate of whoever comes. */
  readonly tls?: Pick<ServerOptions, 'ca' | 'requestCert' | 'rejectUnauthorized'> & {
    readonly key: string;
    readonly cert: string;
  };
  /** Most tags of one page. */
  readonly tagPage?: number;
}

/**
 * An OCI registry in memory, to read from: a registry host, a store host that blobs may be redirected to (it
 * refuses requests with `Authorization`, as S3 does), and a token host. Everything is logged; `misbehave` makes it fail.
 */
export class FakeUpstream {
  readonly log: AccessEntry[] = [];
  readonly #options: FakeUpstreamOptions;
  readonly #authority: FakeAuthority;
  readonly #rules = new Rules();
  readonly #blobs = new Map<string, Map<Digest, Buffer>>();
  readonly #manifests = new Map<string, Map<string, FakeManifest>>();
  #registry: Server | undefined;
  #port = 0;
  readonly #store: Server;
  readonly #token: Server;

  private constructor(options: FakeUpstreamOptions) {
    this.#options = options;
    this.#authority = new FakeAuthority(options.auth ?? { type: 'none' });
    this.#store = createServer(
      this.#listener('store', (req, res, entry) => this.#serveStore(req, res, entry)),
    );
    this.#token = createServer(
      this.#listener('token', (req, res, entry) => this.#serveToken(req, res, entry)),
    );
  }

  static async start(options: FakeUpstreamOptions = {}): Promise<FakeUpstream> {
    const upstream = new FakeUpstream(options);
    await Promise.all([upstream.up(), listen(upstream.#store, 0), listen(upstream.#token, 0)]);
    upstream.#authority.realm = `http://127.0.0.1:${portOf(upstream.#token)}/token`;
    return upstream;
  }

  get url(): string {
    return `${this.#options.tls === undefined ? 'http' : 'https'}://${this.host}`;
  }

  get host(): string {
    return `127.0.0.1:${this.#port}`;
  }

  get storeUrl(): string {
    return `http://127.0.0.1:${portOf(this.#store)}`;
  }

  /** Stores an image or an index with all its images; returns the digest of what the tag names. */
  push(repository: string, image: FakeImage | FakeIndex, ...tags: string[]): Digest {
    if ('images' in image) for (const one of image.images) this.push(repository, one);
    else for (const bytes of image.blobs.values()) this.addBlob(repository, bytes);
    return this.addManifest(repository, image.manifest, ...tags);
  }

  addBlob(repository: string, bytes: Buffer): Digest {
    const digest = digestOf(bytes);
    getOrAdd(this.#blobs, repository, () => new Map<Digest, Buffer>()).set(digest, bytes);
    return digest;
  }

  addManifest(repository: string, manifest: FakeManifest, ...tags: string[]): Digest {
    const manifests = getOrAdd(this.#manifests, repository, () => new Map<string, FakeManifest>());
    for (const reference of [manifest.digest, ...tags]) manifests.set(reference, manifest);
    return manifest.digest;
  }

  removeTag(repository: string, tag: string): void {
    this.#manifests.get(repository)?.delete(tag);
  }

  /** Adds a rule; returns the function that takes it away again. */
  misbehave(rule: Rule): () => void {
    return this.#rules.add(rule);
  }

  /** Takes all rules away. */
  behave(): void {
    this.#rules.clear();
  }

  /** A token is refused from now on. */
  revoke(authorization: string): void {
    this.#authority.revoke(authorization);
  }

  revokeTokens(): void {
    this.#authority.revokeTokens();
  }

  /** Requests of a kind, in order. */
  requests(kind: RequestKind, method?: string): AccessEntry[] {
    return this.log.filter(
      (entry) => entry.kind === kind && (method === undefined || entry.method === method),
    );
  }

  /** Body bytes of blobs that went out, from the registry and its store. */
  get blobBytes(): number {
    return this.log.reduce(
      (sum, entry) => sum + (entry.kind === 'blob' || entry.kind === 'store' ? entry.sentBytes : 0),
      0,
    );
  }

  /** Closes the registry host and cuts its connections: refused from now on. */
  async down(): Promise<void> {
    const server = this.#registry;
    this.#registry = undefined;
    if (server !== undefined) await close(server);
  }

  /** Opens the registry host again, on the same port. */
  async up(): Promise<void> {
    if (this.#registry !== undefined) return;
    const listener = this.#listener('registry', (req, res, entry) => this.#serveRegistry(req, res, entry));
    const { tls } = this.#options;
    this.#registry = tls === undefined ? createServer(listener) : createTlsServer(tls, listener);
    await listen(this.#registry, this.#port);
    this.#port = portOf(this.#registry);
  }

  async stop(): Promise<void> {
    await Promise.all([this.down(), close(this.#store), close(this.#token)]);
  }

  #listener(
    host: AccessEntry['host'],
    serve: (req: IncomingMessage, res: ServerResponse, entry: AccessEntry) => Promise<void>,
  ): RequestListener {
    return (req, res) => {
      const url = new URL(req.url ?? '/', 'http://fake.invalid');
      const entry: AccessEntry = {
        host,
        kind: host === 'registry' ? kindOf(url.pathname) : host,
        method: req.method ?? '',
        path: url.pathname,
        query: url.searchParams,
        range: req.headers.range,
        accept: req.headers.accept,
        authorization: req.headers.authorization,
        status: 0,
        sentBytes: 0,
      };
      this.log.push(entry);
      const { writeHead } = res;
      res.writeHead = ((...args: Parameters<typeof writeHead>) => {
        entry.status = args[0];
        return writeHead.apply(res, args);
      }) as typeof writeHead;
      res.on('error', () => undefined);
      serve(req, res, entry).catch(() => res.destroy());
    };
  }

  async #serveRegistry(req: IncomingMessage, res: ServerResponse, entry: AccessEntry): Promise<void> {
    const faults = this.#rules.take(entry);
    if (await refused(req, res, faults)) return;
    const found = /^\/v2\/(.+)\/(manifests|blobs|tags)\/([^/]+)$/.exec(entry.path);
    const [, repository, , last = ''] = found ?? [];
    if (!this.#authority.admit(req, res, repository)) return;
    const redirect = faults.get('redirect');
    if (redirect !== undefined) {
      const location =
        redirect.to ?? `${this.storeUrl}/store/${repository}/${last}?signature=${'0'.repeat(64)}`;
      res.writeHead(redirect.status ?? 307, { location, 'content-length': '0' }).end();
    } else if (entry.kind === 'base') res.writeHead(200, { 'content-type': 'application/json' }).end('{}');
    else if (entry.kind === 'tags' && repository !== undefined) this.#serveTags(res, repository, entry.query);
    else if (entry.kind === 'manifest' && repository !== undefined)
      await this.#serveManifest(
        req,
        res,
        entry,
        faults,
        this.#manifests.get(repository)?.get(decodeURIComponent(last)),
      );
    else if (entry.kind === 'blob' && repository !== undefined)
      await this.#serveBlob(req, res, entry, faults, this.#blobs.get(repository)?.get(last as Digest));
    else oci(res, 404, 'UNSUPPORTED');
  }

  async #serveManifest(
    req: IncomingMessage,
    res: ServerResponse,
    entry: AccessEntry,
    faults: Faults,
    manifest: FakeManifest | undefined,
  ): Promise<void> {
    if (manifest === undefined) return oci(res, 404, 'MANIFEST_UNKNOWN');
    // As distribution 2.8: a type that the client does not accept does not exist for it.
    if (!/\*\/\*/.test(entry.accept ?? '') && entry.accept?.includes(manifest.mediaType) !== true)
      return oci(res, 404, 'MANIFEST_UNKNOWN');
    if (req.headers['if-none-match'] === `"${manifest.digest}"`)
      return void res.writeHead(304, { etag: `"${manifest.digest}"` }).end();
    await send(req, res, entry, faults, manifest.bytes, {
      'content-type': manifest.mediaType,
      'docker-content-digest': manifest.digest,
    });
  }

  async #serveBlob(
    req: IncomingMessage,
    res: ServerResponse,
    entry: AccessEntry,
    faults: Faults,
    bytes: Buffer | undefined,
  ): Promise<void> {
    if (bytes === undefined) return oci(res, 404, 'BLOB_UNKNOWN');
    await send(req, res, entry, faults, bytes, {
      'content-type': 'application/octet-stream',
      'docker-content-digest': digestOf(bytes),
    });
  }

  async #serveStore(req: IncomingMessage, res: ServerResponse, entry: AccessEntry): Promise<void> {
    const faults = this.#rules.take(entry);
    if (await refused(req, res, faults)) return;
    if (req.headers.authorization !== undefined) return oci(res, 400, 'INVALID_ARGUMENT');
    const found = /^\/store\/(.+)\/([^/]+)$/.exec(entry.path);
    const bytes = this.#blobs.get(found?.[1] ?? '')?.get((found?.[2] ?? '') as Digest);
    if (bytes === undefined) return oci(res, 403, 'ACCESS_DENIED');
    await send(req, res, entry, faults, bytes, { 'content-type': 'binary/octet-stream' });
  }

  async #serveToken(req: IncomingMessage, res: ServerResponse, entry: AccessEntry): Promise<void> {
    if (await refused(req, res, this.#rules.take(entry))) return;
    this.#authority.serveToken(req, res, new URL(req.url ?? '/', 'http://fake.invalid'));
  }

  #serveTags(res: ServerResponse, repository: string, query: URLSearchParams): void {
    const references = [...(this.#manifests.get(repository)?.keys() ?? [])];
    if (references.length === 0) {
      oci(res, 404, 'NAME_UNKNOWN');
      return;
    }
    const all = references.filter((one) => !one.includes(':')).sort();
    const last = query.get('last') ?? '';
    const limit = Number(query.get('n') ?? this.#options.tagPage ?? all.length);
    const after = all.filter((tag) => tag > last);
    const tags = after.slice(0, limit);
    const more = after.length > tags.length && tags.length > 0;
    const link = more
      ? {
          link: `</v2/${repository}/tags/list?last=${encodeURIComponent(tags.at(-1)!)}&n=${limit}>; rel="next"`,
        }
      : {};
    res
      .writeHead(200, { 'content-type': 'application/json', ...link })
      .end(JSON.stringify({ name: repository, tags }));
  }
}

function kindOf(path: string): RequestKind {
  if (path === '/v2/' || path === '/v2') return 'base';
  const found = /^\/v2\/.+\/(manifests|blobs|tags)\/[^/]+$/.exec(path)?.[1];
  return found === 'manifests'
    ? 'manifest'
    : found === 'blobs'
      ? 'blob'
      : found === 'tags'
        ? 'tags'
        : 'other';
}

function getOrAdd<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let value = map.get(key);
  if (value === undefined) {
    value = make();
    map.set(key, value);
  }
  return value;
}

async function listen(server: Server, port: number): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', resolve);
  });
}

async function close(server: Server): Promise<void> {
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

function portOf(server: Server): number {
  return (server.address() as AddressInfo).port;
}
