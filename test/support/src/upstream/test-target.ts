import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { digestOf } from '@sepia/base/digest';
import type { Test } from 'tap';

/** What a hook makes of a request instead of serving it. `cut`: after so many bytes of its body the connection ends. */
export type Fault =
  | { readonly status: number; readonly headers?: Readonly<Record<string, string>> }
  | { readonly cutAfterBytes: number };

const INDEX = 'application/vnd.oci.image.index.v1+json';

/**
 * A registry that takes pushes as distribution does (a manifest needs its parts), counts what it is sent, and fails
 * where a hook says so.
 */
export class TestTarget {
  readonly url: string;
  readonly #server: Server;
  /** `repository@digest` → bytes. */
  readonly blobs = new Map<string, Buffer>();
  /** `repository:tag` and `repository@digest` → digest. */
  readonly manifests = new Map<string, string>();
  readonly manifestBytes = new Map<string, Buffer>();
  /** How often each blob was sent whole, each manifest put. */
  readonly sent = new Map<string, number>();
  readonly requests: string[] = [];
  mounts = 0;
  /** Whether it lists referrers itself. */
  listsReferrers = false;
  /** One that takes its time holds up the answer. */
  fault: (
    method: string,
    path: string,
    query: URLSearchParams,
    /** Of the body, as the request says. */
    bytes: number,
  ) => Fault | undefined | Promise<Fault | undefined> = () => undefined;
  /** `basic`: user:pass. `token`: tokens that may be used so often. */
  auth: { readonly type: 'basic' } | { readonly type: 'token'; readonly uses: number } | undefined;
  readonly #sessions = new Map<string, Buffer[]>();
  readonly #tokens = new Map<string, number>();
  #count = 0;

  private constructor(server: Server, url: string) {
    this.#server = server;
    this.url = url;
  }

  static async start(t: Test): Promise<TestTarget> {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const target = new TestTarget(server, `http://127.0.0.1:${(server.address() as { port: number }).port}`);
    server.on('request', (req: IncomingMessage, res: ServerResponse) => {
      target.#serve(req, res).catch(() => res.destroy());
    });
    t.teardown(async () => {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    });
    return target;
  }

  /** Nothing listens until {@link up}. */
  async down(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async up(): Promise<void> {
    const { port } = new URL(this.url);
    await new Promise<void>((resolve) => this.#server.listen(Number(port), '127.0.0.1', resolve));
  }

  /** The list of referrers that clients left under the tag of a subject. */
  referrersListed(repository: string, subject: string): readonly { readonly digest: string }[] | undefined {
    const digest = this.manifests.get(`${repository}:${subject.replace(':', '-')}`);
    if (digest === undefined) return undefined;
    return (JSON.parse(this.manifestBytes.get(digest)!.toString()) as { manifests: { digest: string }[] })
      .manifests;
  }

  async #serve(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const url = new URL(req.url!, this.url);
    this.requests.push(`${req.method} ${url.pathname}`);
    if (url.pathname === '/token') return this.#token(req, res);
    if (!this.#mayPass(req, res)) return void req.resume();
    const bytes = Number(req.headers['content-length'] ?? 0);
    const fault = await this.fault(req.method!, url.pathname, url.searchParams, bytes);
    if (fault !== undefined && 'status' in fault) {
      req.resume();
      res.writeHead(fault.status, { 'content-type': 'application/json', ...fault.headers });
      return void res.end(JSON.stringify({ errors: [{ code: 'UNKNOWN', message: 'made to fail' }] }));
    }
    const upload = /^\/v2\/(.+)\/blobs\/uploads\/(\w*)$/.exec(url.pathname);
    if (upload !== null) return await this.#upload(req, res, url, upload[1]!, upload[2]!, fault);
    const blob = /^\/v2\/(.+)\/blobs\/(.+)$/.exec(url.pathname);
    if (blob !== null) return this.#blob(req, res, `${blob[1]}@${blob[2]}`);
    const list = /^\/v2\/(.+)\/tags\/list$/.exec(url.pathname);
    if (list !== null) return this.#list(res, list[1]!);
    const referrers = /^\/v2\/(.+)\/referrers\/(.+)$/.exec(url.pathname);
    if (referrers !== null && this.listsReferrers) return this.#referrers(res, referrers[1]!, referrers[2]!);
    const manifest = /^\/v2\/(.+)\/manifests\/(.+)$/.exec(url.pathname);
    if (manifest !== null) return await this.#manifest(req, res, manifest[1]!, manifest[2]!);
    res.writeHead(404).end();
  }

  #blob(req: IncomingMessage, res: ServerResponse, key: string): void {
    const bytes = this.blobs.get(key);
    if (bytes === undefined) return void res.writeHead(404).end();
    const range = /^bytes=(\d+)-(\d*)$/.exec(req.headers.range ?? '');
    const start = Number(range?.[1] ?? 0);
    const end = Math.min(bytes.length, Number(range?.[2] || bytes.length - 1) + 1);
    if (range !== null && start >= bytes.length) return void res.writeHead(416).end();
    res.writeHead(range === null ? 200 : 206, {
      'content-length': end - start,
      ...(range === null ? {} : { 'content-range': `bytes ${start}-${end - 1}/${bytes.length}` }),
    });
    if (req.method === 'HEAD') return void res.end();
    res.end(bytes.subarray(start, end));
  }

  async #upload(
    req: IncomingMessage,
    res: ServerResponse,
    url: URL,
    repository: string,
    session: string,
    fault: Fault | undefined,
  ): Promise<void> {
    if (req.method === 'POST') {
      const [mount, from] = [url.searchParams.get('mount'), url.searchParams.get('from')];
      const known = this.blobs.get(`${from}@${mount}`);
      if (known !== undefined) {
        this.mounts += 1;
        this.blobs.set(`${repository}@${mount}`, known);
        return void res.writeHead(201, { location: `/v2/${repository}/blobs/${mount}` }).end();
      }
      const id = `u${this.#count++}`;
      this.#sessions.set(id, []);
      return void res.writeHead(202, { location: `/v2/${repository}/blobs/uploads/${id}?state=x` }).end();
    }
    const parts = this.#sessions.get(session);
    if (parts === undefined) return void res.writeHead(404).end();
    const length = (): number => parts.reduce((sum, one) => sum + one.length, 0);
    const location = `/v2/${repository}/blobs/uploads/${session}?state=x`;
    if (req.method === 'DELETE') {
      this.#sessions.delete(session);
      return void res.writeHead(204).end();
    }
    if (req.method === 'GET')
      return void res.writeHead(204, { location, range: `0-${Math.max(0, length() - 1)}` }).end();
    const start = /^(\d+)-/.exec(req.headers['content-range'] ?? '')?.[1];
    if (start !== undefined && Number(start) !== length()) {
      req.resume();
      return void res.writeHead(416, { location, range: `0-${Math.max(0, length() - 1)}` }).end();
    }
    let taken = 0;
    for await (const chunk of req as AsyncIterable<Buffer>) {
      parts.push(chunk);
      taken += chunk.length;
      if (fault !== undefined && 'cutAfterBytes' in fault && taken >= fault.cutAfterBytes)
        return void req.socket.destroy();
    }
    if (req.method === 'PATCH')
      return void res.writeHead(202, { location, range: `0-${length() - 1}` }).end();
    const digest = url.searchParams.get('digest')!;
    const bytes = Buffer.concat(parts);
    if (digestOf(bytes, digest.startsWith('sha512') ? 'sha512' : 'sha256') !== digest)
      return void res.writeHead(400).end();
    this.#sessions.delete(session);
    this.blobs.set(`${repository}@${digest}`, bytes);
    this.#sent(`${repository}@${digest}`);
    res.writeHead(201).end();
  }

  async #manifest(
    req: IncomingMessage,
    res: ServerResponse,
    repository: string,
    reference: string,
  ): Promise<void> {
    const key = reference.includes(':') ? `${repository}@${reference}` : `${repository}:${reference}`;
    const known = this.manifests.get(key);
    if (req.method === 'HEAD')
      return void res
        .writeHead(known === undefined ? 404 : 200, { 'docker-content-digest': known ?? '' })
        .end();
    if (req.method === 'GET') {
      if (known === undefined) return void res.writeHead(404).end();
      const found = this.manifestBytes.get(known)!;
      const type = (JSON.parse(found.toString()) as { mediaType: string }).mediaType;
      return void res.writeHead(200, { 'content-type': type, 'docker-content-digest': known }).end(found);
    }
    if (req.method === 'DELETE') {
      this.manifests.delete(key);
      return void res.writeHead(202).end();
    }
    const parts: Buffer[] = [];
    for await (const chunk of req as AsyncIterable<Buffer>) parts.push(chunk);
    const bytes = Buffer.concat(parts);
    const digest = digestOf(bytes);
    const body = JSON.parse(bytes.toString()) as Record<string, { digest: string }[] | undefined>;
    const lacks =
      (body['layers'] ?? []).some((one) => !this.blobs.has(`${repository}@${one.digest}`)) ||
      (body['manifests'] ?? []).some(
        ({ digest: part }) =>
          !this.manifests.has(`${repository}@${part}`) && !this.blobs.has(`${repository}@${part}`),
      );
    if (lacks || (reference.includes(':') && reference !== digest)) {
      const code = lacks ? 'MANIFEST_BLOB_UNKNOWN' : 'DIGEST_INVALID';
      res.writeHead(400, { 'content-type': 'application/json' });
      return void res.end(JSON.stringify({ errors: [{ code, message: 'refused' }] }));
    }
    this.manifests.set(key, digest);
    this.manifests.set(`${repository}@${digest}`, digest);
    this.manifestBytes.set(digest, bytes);
    this.#sent(key);
    const { subject } = JSON.parse(bytes.toString()) as { subject?: { digest: string } };
    const said = this.listsReferrers && subject !== undefined ? { 'oci-subject': subject.digest } : {};
    res.writeHead(201, { 'docker-content-digest': digest, ...said }).end();
  }

  #referrers(res: ServerResponse, repository: string, subject: string): void {
    const manifests = [...this.manifests]
      .filter(([key]) => key.startsWith(`${repository}@`))
      .flatMap(([, digest]) => {
        const bytes = this.manifestBytes.get(digest)!;
        const one = JSON.parse(bytes.toString()) as { mediaType: string; subject?: { digest: string } };
        if (one.subject?.digest !== subject) return [];
        return [{ mediaType: one.mediaType, digest, size: bytes.length }];
      });
    res.writeHead(200, { 'content-type': 'application/json' });
    res.end(JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests }));
  }

  #list(res: ServerResponse, repository: string): void {
    const prefix = `${repository}:`;
    const tags = [...this.manifests.keys()]
      .filter((key) => key.startsWith(prefix))
      .map((key) => key.slice(prefix.length));
    if (tags.length === 0) return void res.writeHead(404).end();
    res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ tags }));
  }

  #mayPass(req: IncomingMessage, res: ServerResponse): boolean {
    const { auth } = this;
    const given = req.headers.authorization ?? '';
    if (auth === undefined) return true;
    if (auth.type === 'basic') {
      if (given === `Basic ${Buffer.from('user:pass').toString('base64')}`) return true;
      res.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end();
      return false;
    }
    const left = this.#tokens.get(given.slice('Bearer '.length)) ?? 0;
    if (left > 0) {
      this.#tokens.set(given.slice('Bearer '.length), left - 1);
      return true;
    }
    res.writeHead(401, { 'www-authenticate': `Bearer realm="${this.url}/token",service="x"` }).end();
    return false;
  }

  #token(req: IncomingMessage, res: ServerResponse): void {
    if (req.headers.authorization !== `Basic ${Buffer.from('user:pass').toString('base64')}`)
      return void res.writeHead(401).end();
    const token = `t${this.#count++}`;
    this.#tokens.set(token, this.auth?.type === 'token' ? this.auth.uses : 0);
    res.writeHead(200, { 'content-type': 'application/json' });
    res.end(JSON.stringify({ token, expires_in: 300 }));
  }

  #sent(key: string): void {
    this.sent.set(key, (this.sent.get(key) ?? 0) + 1);
  }
}
