import type { IncomingMessage, ServerResponse } from 'node:http';
import { isCoded } from '@sepia/base/errors';
import { contentRange, parseRange } from '@sepia/oci/range';
import { type Faults, flipBit, type RequestKind, sendBody } from './misbehave.ts';

/** One request that the fake upstream saw, on any of its three hosts. */
export interface AccessEntry {
  readonly host: 'registry' | 'store' | 'token';
  readonly kind: RequestKind;
  readonly method: string;
  readonly path: string;
  readonly query: URLSearchParams;
  readonly range: string | undefined;
  readonly accept: string | undefined;
  readonly authorization: string | undefined;
  status: number;
  /** Body bytes that the socket took. */
  sentBytes: number;
}

/** True when a fault has answered (or will never answer) the request. */
export async function refused(req: IncomingMessage, res: ServerResponse, faults: Faults): Promise<boolean> {
  const wait = faults.get('delay')?.ms;
  if (wait !== undefined) await new Promise<void>((resolve) => setTimeout(resolve, wait));
  if (faults.get('silent') !== undefined) return true;
  if (faults.get('reset') !== undefined) {
    req.socket.destroy();
    return true;
  }
  const status = faults.get('status');
  if (status === undefined) return false;
  res.writeHead(status.status, { 'content-type': 'application/json', ...status.headers });
  res.end(
    req.method === 'HEAD'
      ? undefined
      : (status.body ?? `{"errors":[{"code":"FAKE_${status.status}","message":"as told"}]}`),
  );
  return true;
}

/** Sends content, whole or the range asked for, with what the faults do to it. */
export async function send(
  req: IncomingMessage,
  res: ServerResponse,
  entry: AccessEntry,
  faults: Faults,
  whole: Buffer,
  headers: Record<string, string>,
): Promise<void> {
  const lie = faults.get('lie');
  const content = lie === undefined ? whole : flipBit(whole, lie.at);
  let asked: ReturnType<typeof parseRange>;
  try {
    asked = parseRange(
      entry.method === 'GET' && faults.get('ignore-range') === undefined ? entry.range : undefined,
      content.length,
    );
  } catch (error) {
    if (!isCoded(error)) throw error;
    res.writeHead(416, { 'content-range': `bytes */${content.length}` }).end();
    return;
  }
  const single = asked.type === 'single' ? asked.range : undefined;
  const body = single === undefined ? content : content.subarray(single.start, single.end + 1);
  if (faults.get('no-digest') !== undefined) delete headers['docker-content-digest'];
  const wrong = faults.get('wrong-digest');
  if (wrong !== undefined) headers['docker-content-digest'] = wrong.digest;
  if (single !== undefined) headers['content-range'] = contentRange(single, content.length);
  if (faults.get('chunked') === undefined)
    headers['content-length'] = String(body.length + (faults.get('wrong-length')?.by ?? 0));
  res.strictContentLength = false;
  res.writeHead(single === undefined ? 200 : 206, { 'accept-ranges': 'bytes', ...headers });
  if (entry.method === 'HEAD') res.end();
  else
    await sendBody(req, res, body, faults, (bytes) => {
      entry.sentBytes += bytes;
    });
}

/** An OCI error. */
export function oci(res: ServerResponse, status: number, code: string): void {
  res
    .writeHead(status, { 'content-type': 'application/json' })
    .end(JSON.stringify({ errors: [{ code, message: code.toLowerCase().replaceAll('_', ' ') }] }));
}
