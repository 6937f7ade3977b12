import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type Server, type ServerResponse } from 'node:http';

/** What becomes of one request on its way to the store. */
export type S3Fault =
  /** Answered in the store's place. */
  | { readonly type: 'answer'; readonly status: number; readonly code: string }
  /** The connection ends after so many bytes of what is sent, or of what is answered. */
  | { readonly type: 'cut-request' | 'cut-answer'; readonly afterBytes: number }
  /** The store's answer, with another ETag. */
  | { readonly type: 'etag'; readonly etag: string }
  /** A bit is turned over at this place of what is sent, or of what is answered. */
  | { readonly type: 'flip-request' | 'flip-answer'; readonly at: number }
  /** Nothing comes back. `after`: what came is carried to the store first. */
  | { readonly type: 'silence'; readonly after: boolean };

/** A request as the proxy saw it. */
export interface SeenRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly range: string | undefined;
  /** What the store answered, once it has. */
  status?: number;
}

/** Stands between Sepia and an S3 store: carries requests, or does to them what `fault` says. */
export class S3Faults {
  readonly url: string;
  readonly seen: SeenRequest[] = [];
  fault: (seen: SeenRequest) => S3Fault | undefined | Promise<S3Fault | undefined> = () => undefined;
  readonly #server: Server;
  readonly #target: URL;

  private constructor(server: Server, target: URL) {
    this.#server = server;
    this.#target = target;
    this.url = `http://127.0.0.1:${(server.address() as { port: number }).port}`;
  }

  static async start(target: string): Promise<S3Faults> {
    const server = createServer();
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const faults = new S3Faults(server, new URL(target));
    server.on('request', (req: IncomingMessage, res: ServerResponse) => {
      faults.#serve(req, res).catch(() => res.destroy());
    });
    return faults;
  }

  async stop(): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(req: IncomingMessage, res: ServerResponse): Promise<void> {
    const seen: SeenRequest = { method: req.method!, path: req.url!, range: req.headers.range };
    this.seen.push(seen);
    const fault = await this.fault(seen);
    if (fault?.type === 'answer') {
      req.resume();
      await once(req, 'end');
      res.writeHead(fault.status, { 'content-type': 'application/xml' });
      const body = `<?xml version="1.0"?><Error><Code>${fault.code}</Code><Message>made to fail</Message></Error>`;
      return void res.end(req.method === 'HEAD' ? '' : body);
    }
    if (fault?.type === 'silence' && !fault.after) return void req.resume();
    const chunks: Buffer[] = [];
    let taken = 0;
    for await (const chunk of req as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      taken += chunk.length;
      if (fault?.type === 'cut-request' && taken >= fault.afterBytes) return void req.socket.destroy();
    }
    const body = Buffer.concat(chunks);
    if (fault?.type === 'flip-request') body[fault.at]! ^= 1;
    const answer = await this.#carry(req, body);
    seen.status = answer.statusCode!;
    if (fault?.type === 'silence') return void answer.resume();
    const headers = { ...answer.headers };
    if (fault?.type === 'etag') headers.etag = fault.etag;
    res.writeHead(answer.statusCode!, headers);
    let at = 0;
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      if (fault?.type === 'flip-answer' && fault.at >= at && fault.at < at + chunk.length)
        chunk[fault.at - at]! ^= 1;
      at += chunk.length;
      if (fault?.type === 'cut-answer' && at >= fault.afterBytes) {
        await new Promise((resolve) => res.write(chunk, resolve));
        return void res.destroy();
      }
      if (!res.write(chunk)) await once(res, 'drain');
    }
    res.end();
  }

  /** The host stays as it was signed. */
  async #carry(req: IncomingMessage, body: Buffer): Promise<IncomingMessage> {
    const { hostname, port } = this.#target;
    const { method, url: path, headers } = req;
    const { 'transfer-encoding': _chunked, ...sent } = headers;
    const out = request({ hostname, port, method, path, headers: sent });
    // A store that answers before it has read all may reset the connection then: its answer is carried on.
    out.on('error', () => undefined);
    out.end(body);
    const [answer] = (await once(out, 'response')) as [IncomingMessage];
    return answer;
  }
}
