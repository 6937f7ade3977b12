import { IncomingMessage, type RequestListener, ServerResponse } from 'node:http';
import { Duplex } from 'node:stream';

/** How a client on no network takes an answer. */
interface ClientManner {
  /** Default GET. */
  readonly method?: 'GET' | 'HEAD';
  readonly headers?: Readonly<Record<string, string>>;
  /** How long the socket keeps each write, in ms; undefined: it takes it at once. */
  readonly takesMs?: () => number | undefined;
}

/** What a client got. `complete`: the answer ended as announced, so that the client believes it. */
export interface VirtualAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Buffer;
  readonly complete: boolean;
}

/** One request of an app without a network: the bytes that it would write to the socket, as a client reads them. */
export async function virtualGet(
  listener: RequestListener,
  path: string,
  manner: ClientManner = {},
): Promise<VirtualAnswer> {
  const written: Buffer[] = [];
  const socket = new Duplex({
    read: () => undefined,
    write: (chunk: Buffer, _encoding, done) => {
      const waitMs = manner.takesMs?.();
      // A copy: the writer may use its buffer again once it was taken.
      const take = (): void => {
        written.push(Buffer.from(chunk));
        done();
      };
      if (waitMs === undefined) take();
      else setTimeout(take, waitMs);
    },
  });
  Object.assign(socket, { setTimeout: () => socket });
  const request = new IncomingMessage(socket as never);
  // Without chunks, so that a body is what was written.
  const version = { httpVersion: '1.0', httpVersionMajor: 1, httpVersionMinor: 0 };
  const { method = 'GET' } = manner;
  const headers = { host: 'sepia.example', ...manner.headers };
  Object.assign(request, { ...version, method, url: path, headers });
  const response = new ServerResponse(request);
  response.assignSocket(socket as never);
  const ended = new Promise<void>((resolve) => {
    response.once('finish', () => resolve());
    response.once('close', () => resolve());
    socket.once('close', () => resolve());
  });
  // What the server of Node does for its sockets.
  socket.on('drain', () => response.emit('drain'));
  socket.once('close', () => response.emit('close'));
  listener(request, response);
  await ended;
  return parse(Buffer.concat(written), method === 'HEAD', response.writableFinished && !socket.destroyed);
}

function parse(bytes: Buffer, isHead: boolean, finished: boolean): VirtualAnswer {
  const headEnd = bytes.indexOf('\r\n\r\n');
  if (headEnd < 0) return { status: 0, headers: {}, body: Buffer.alloc(0), complete: false };
  const [first = '', ...lines] = bytes.toString('latin1', 0, headEnd).split('\r\n');
  const headers = Object.fromEntries(
    lines.map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }),
  );
  const body = bytes.subarray(headEnd + 4);
  const length = headers['content-length'];
  // A client counts: it believes an answer once it has as many bytes as were announced.
  const complete = length === undefined || isHead ? finished : body.length >= Number(length);
  return {
    status: Number(first.split(' ')[1]),
    headers,
    body: body.subarray(0, Number(length ?? body.length)),
    complete,
  };
}

/** Two ranges of a blob that do not touch, as first and last byte, and the header that asks for both. */
export function twoRanges(sizeBytes: number): {
  readonly header: string;
  readonly ranges: readonly (readonly [number, number])[];
} {
  const part = Math.floor(sizeBytes / 5);
  const ranges = [[part, 2 * part] as const, [3 * part, sizeBytes - 1] as const];
  return { header: `bytes=${ranges.map(([first, last]) => `${first}-${last}`).join(',')}`, ranges };
}

/** What a whole answer to several ranges of a blob must hold, with the boundary that it announces. */
export function severalParts(
  answer: VirtualAnswer,
  bytes: Buffer,
  ranges: readonly (readonly [number, number])[],
): Buffer {
  const boundary = /^multipart\/byteranges; boundary=(\w+)$/.exec(answer.headers['content-type'] ?? '')?.[1];
  const parts = ranges.flatMap(([first, last]) => [
    Buffer.from(
      `\r\n--${boundary}\r\nContent-Type: application/octet-stream\r\nContent-Range: bytes ${first}-${last}/${bytes.length}\r\n\r\n`,
    ),
    bytes.subarray(first, last + 1),
  ]);
  return Buffer.concat([...parts, Buffer.from(`\r\n--${boundary}--\r\n`)]);
}
