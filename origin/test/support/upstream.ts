import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { digestOf } from '@sepia/base/digest';
import type { Test } from 'tap';

/** A registry for tests: blobs and manifests in memory, with faults. */
export class TestUpstream {
  readonly blobs = new Map<string, Buffer>();
  /** `<repository>:<reference>` → bytes and type. */
  readonly manifests = new Map<string, { bytes: Buffer; mediaType: string }>();
  readonly requests: string[] = [];
  /** Changes how blobs are answered; return true when it answered. */
  fault: ((req: IncomingMessage, res: ServerResponse, bytes: Buffer) => boolean) | undefined;
  ignoreRange = false;
  noLength = false;
  /** Bytes per second of blob bodies; 0 = unlimited. */
  rate = 0;
  down = false;
  /** Every manifest is refused with this, as a policy gate does. */
  refuse: { readonly status: number; readonly code: string; readonly message: string } | undefined;
  /** Manifests are not there for who brings this `Authorization`. */
  hidesFrom: string | undefined;
  bodyBytes = 0;
  readonly #server: Server;

  private constructor() {
    this.#server = createServer((req, res) => void this.#answer(req, res));
  }

  static async start(t: Test): Promise<TestUpstream> {
    const upstream = new TestUpstream();
    await new Promise<void>((resolve) => upstream.#server.listen(0, '127.0.0.1', resolve));
    t.teardown(() => {
      upstream.#server.closeAllConnections();
      upstream.#server.close();
    });
    return upstream;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as { port: number }).port}`;
  }

  addBlob(bytes: Buffer): string {
    const digest = digestOf(bytes);
    this.blobs.set(digest, bytes);
    return digest;
  }

  addManifest(repository: string, tag: string, value: object, mediaType: string): string {
    const bytes = Buffer.from(JSON.stringify(value));
    const digest = digestOf(bytes);
    for (const reference of [tag, digest])
      this.manifests.set(`${repository}:${reference}`, { bytes, mediaType });
    return digest;
  }

  async #answer(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const url = new URL(req.url ?? '/', 'http://x');
    this.requests.push(
      `${req.method} ${url.pathname}${req.headers.range === undefined ? '' : ` ${req.headers.range}`}`,
    );
    if (this.down) return void req.socket.destroy();
    const found = /^\/v2\/(.+)\/(manifests|blobs|tags)\/([^/]+)$/.exec(url.pathname);
    if (found === null) return void res.writeHead(404).end();
    const [, repository = '', kind, reference = ''] = found;
    if (kind === 'tags') {
      const tags = [...this.manifests.keys()]
        .filter((key) => key.startsWith(`${repository}:`) && !key.includes('sha256:'))
        .map((key) => key.slice(repository.length + 1));
      return void res
        .writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify({ name: repository, tags }));
    }
    if (kind === 'manifests' && this.refuse !== undefined) {
      const { status, ...error } = this.refuse;
      const body = JSON.stringify({ errors: [error] });
      return void res
        .writeHead(status, { 'content-type': 'application/json' })
        .end(req.method === 'HEAD' ? undefined : body);
    }
    if (kind === 'manifests') {
      const { authorization } = req.headers;
      const isHidden = authorization !== undefined && authorization === this.hidesFrom;
      const manifest = isHidden ? undefined : this.manifests.get(`${repository}:${reference}`);
      if (manifest === undefined)
        return void res
          .writeHead(404, { 'content-type': 'application/json' })
          .end('{"errors":[{"code":"MANIFEST_UNKNOWN"}]}');
      res.writeHead(200, {
        'content-type': manifest.mediaType,
        'content-length': manifest.bytes.length,
        'docker-content-digest': digestOf(manifest.bytes),
      });
      return void res.end(req.method === 'HEAD' ? undefined : manifest.bytes);
    }
    const bytes = this.blobs.get(reference);
    if (bytes === undefined) return void res.writeHead(404).end();
    if (this.fault?.(req, res, bytes) === true) return;
    await this.#sendBlob(req, res, bytes);
  }

  async #sendBlob(req: IncomingMessage, res: ServerResponse, bytes: Buffer): Promise<void> {
    const range = this.ignoreRange ? null : /^bytes=(\d+)-(\d*)$/.exec(req.headers.range ?? '');
    const start = range === null ? 0 : Number(range[1]);
    const last = bytes.length - 1;
    const end = range === null || range[2] === '' ? last : Math.min(last, Number(range[2]));
    if (range !== null && start > last)
      return void res.writeHead(416, { 'content-range': `bytes */${bytes.length}` }).end();
    const part = bytes.subarray(start, end + 1);
    res.writeHead(range === null ? 200 : 206, {
      'content-type': 'application/octet-stream',
      ...(this.noLength ? {} : { 'content-length': part.length }),
      ...(range === null ? {} : { 'content-range': `bytes ${start}-${end}/${bytes.length}` }),
    });
    if (req.method === 'HEAD') return void res.end();
    await this.send(res, part);
    res.end();
  }

  /** Writes bytes at the set rate; returns early when the client is gone. */
  async send(res: ServerResponse, part: Buffer): Promise<void> {
    const step = 64 * 1024;
    for (let at = 0; at < part.length && !res.destroyed; at += step) {
      const chunk = part.subarray(at, at + step);
      this.bodyBytes += chunk.length;
      const flushed = res.write(chunk);
      if (this.rate > 0)
        await new Promise((resolve) => setTimeout(resolve, (chunk.length / this.rate) * 1000));
      else if (!flushed) {
        await new Promise<void>((resolve) => {
          const wake = (): void => {
            res.off('drain', wake).off('close', wake);
            resolve();
          };
          res.on('drain', wake).on('close', wake);
        });
      }
    }
  }
}
