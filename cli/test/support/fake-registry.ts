import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { digestOf } from '@sepia/base/digest';
import { createDispatcher, type Dispatcher } from '@sepia/http/sockets';
import type { Test } from 'tap';

/** What goes wrong at a blob's GET: called with the request's number for that blob, from 1. */
export type BlobFault = (
  count: number,
) => { readonly cutAfter?: number; readonly ignoreRange?: boolean; readonly corrupt?: boolean } | undefined;

/** The smallest registry that can be pushed to and pulled from, and that can misbehave. */
export class FakeRegistry {
  readonly blobs = new Map<string, Buffer>();
  readonly manifests = new Map<string, { bytes: Buffer; type: string }>();
  readonly requests: string[] = [];
  /** Called before anything is answered; true if it answered. */
  guard: ((request: IncomingMessage, response: ServerResponse, body: Buffer) => boolean) | undefined;

  /** One that runs up to the end of the test, and sockets to reach it by. */
  static async started(t: Pick<Test, 'teardown'>): Promise<{
    readonly registry: FakeRegistry;
    readonly url: string;
    readonly dispatcher: Dispatcher;
  }> {
    const registry = new FakeRegistry();
    const url = await registry.start();
    const dispatcher = createDispatcher();
    t.teardown(async () => {
      await dispatcher.destroy();
      await registry.stop();
    });
    return { registry, url, dispatcher };
  }

  readonly #faults = new Map<string, BlobFault>();
  readonly #counts = new Map<string, number>();
  readonly #server: Server = createServer(
    (request, response) => void this.#answer(request, response).catch(() => response.destroy()),
  );

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  addBlob(bytes: Buffer, fault?: BlobFault): string {
    const digest = digestOf(bytes);
    this.blobs.set(digest, bytes);
    if (fault !== undefined) this.#faults.set(digest, fault);
    return digest;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url!, 'http://x');
    this.requests.push(`${request.method} ${request.url} ${request.headers.range ?? ''}`.trim());
    const body: Buffer[] = [];
    for await (const chunk of request as AsyncIterable<Buffer>) body.push(chunk);
    if (this.guard?.(request, response, Buffer.concat(body)) === true) return;
    const [, kind, last] = /^\/v2\/.+\/(manifests|blobs)\/(.+)$/.exec(url.pathname) ?? [];
    if (kind === 'manifests') return this.#manifest(request, response, last!, Buffer.concat(body));
    if (last?.startsWith('uploads/')) return this.#upload(request, response, url, Buffer.concat(body));
    const blob = this.blobs.get(last ?? '');
    if (blob === undefined) return void refuse(response, 404, 'BLOB_UNKNOWN', 'blob unknown');
    if (request.method === 'HEAD')
      return void response.writeHead(200, { 'content-length': blob.length }).end();
    this.#blob(request, response, last!, blob);
  }

  #manifest(request: IncomingMessage, response: ServerResponse, reference: string, body: Buffer): void {
    if (request.method === 'PUT') {
      const { manifests = [] } = JSON.parse(body.toString()) as { manifests?: { digest: string }[] };
      if (manifests.some(({ digest }) => !this.manifests.has(digest) && !this.blobs.has(digest)))
        return void refuse(response, 404, 'MANIFEST_BLOB_UNKNOWN', 'a part of the index is missing');
      const entry = { bytes: body, type: request.headers['content-type']! };
      this.manifests.set(reference, entry).set(digestOf(body), entry);
      return void response.writeHead(201).end();
    }
    const found = this.manifests.get(reference);
    if (found === undefined) return void refuse(response, 404, 'MANIFEST_UNKNOWN', 'manifest unknown');
    const headers = {
      'content-type': found.type,
      'content-length': found.bytes.length,
      'docker-content-digest': digestOf(found.bytes),
    };
    response.writeHead(200, headers).end(request.method === 'HEAD' ? undefined : found.bytes);
  }

  #upload(request: IncomingMessage, response: ServerResponse, url: URL, body: Buffer): void {
    if (request.method === 'POST')
      return void response.writeHead(202, { location: '/v2/x/blobs/uploads/one?state=1' }).end();
    if (url.searchParams.get('state') !== '1')
      return void refuse(response, 404, 'BLOB_UPLOAD_UNKNOWN', 'no such upload');
    const digest = url.searchParams.get('digest') ?? '';
    if (digestOf(body) !== digest) return void refuse(response, 400, 'DIGEST_INVALID', 'wrong bytes');
    this.blobs.set(digest, body);
    response.writeHead(201).end();
  }

  #blob(request: IncomingMessage, response: ServerResponse, digest: string, blob: Buffer): void {
    const count = (this.#counts.get(digest) ?? 0) + 1;
    this.#counts.set(digest, count);
    const fault = this.#faults.get(digest)?.(count);
    const from =
      fault?.ignoreRange === true ? 0 : Number(/^bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
    if (from > 0 && from >= blob.length)
      return void refuse(response, 416, 'RANGE_INVALID', 'there is nothing there');
    const part = Buffer.from(blob.subarray(from));
    if (fault?.corrupt === true) part[part.length - 1]! ^= 1;
    response.writeHead(from === 0 ? 200 : 206, { 'content-length': part.length });
    if (fault?.cutAfter === undefined) return void response.end(part);
    response.write(part.subarray(0, fault.cutAfter), () => response.destroy());
  }
}

function refuse(response: ServerResponse, status: number, code: string, message: string): void {
  response
    .writeHead(status, { 'content-type': 'application/json' })
    .end(JSON.stringify({ errors: [{ code, message }] }));
}
