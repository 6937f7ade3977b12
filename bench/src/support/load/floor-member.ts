// One member of `small-pushes-floor`: makes the calls and syncs of a small push, in plain Node, and nothing else.
import { createHash, hash, randomBytes } from 'node:crypto';
import { closeSync, fsync, mkdirSync, openSync } from 'node:fs';
import { type FileHandle, open, rename } from 'node:fs/promises';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { type Dispatcher, Pool } from 'undici';

/** Folders that files are spread over: as many as the store of an origin has. */
const SHARDS = 256;

/** What a member is told on its command line, as JSON. */
export interface FloorMember {
  readonly role: 'proxy' | 'origin';
  /** Where an origin keeps its files. */
  readonly dir: string;
  readonly isSynced: boolean;
}

const { role, dir, isSynced } = JSON.parse(process.argv[2] ?? '{}') as FloorMember;
const syncOf = promisify(fsync);
/** Of the origins that it calls: a proxy all of them, an origin both others. */
let others: Pool[] = [];
let log: FileHandle | undefined;
let waiting: (() => void)[] = [];
let isWriting = false;
let files = 0;

if (role === 'origin') {
  for (const kind of ['blobs', 'meta'])
    for (let shard = 0; shard < SHARDS; shard++) mkdirSync(shardOf(kind, shard), { recursive: true });
  log = await open(join(dir, 'log'), 'a');
}
const server = createServer((request, response) => {
  // What fails ends this process, and the bench with it.
  void (role === 'proxy' ? relay(request, response) : answer(request, response));
});
server.listen(0, '127.0.0.1', () =>
  process.stdout.write(`http://127.0.0.1:${(server.address() as AddressInfo).port}\n`),
);
// The first line names the others; the end of the input ends this process.
const lines = createInterface(process.stdin);
lines.once('line', (line) => {
  others = (JSON.parse(line) as string[]).map((url) => new Pool(url));
  process.stdout.write('ready\n');
});
lines.once('close', () => process.exit(0));

/** A proxy hands each of the client's requests to an origin. */
async function relay(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = await bodyOf(request);
  const origin = others[Math.floor(Math.random() * others.length)]!;
  if (request.method === 'POST') {
    const { id } = JSON.parse(await call(origin, 'POST', '/begin')) as { id: string };
    response.writeHead(202, { location: `${request.url}${id}` }).end();
    return;
  }
  await call(origin, 'PUT', request.url?.includes('/manifests/') ? '/manifest' : '/blob', body);
  response.writeHead(201, { 'docker-content-digest': `sha256:${hash('sha256', body, 'hex')}` }).end();
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const body = await bodyOf(request);
  if (request.url === '/begin') {
    response.writeHead(202).end(JSON.stringify({ id: randomBytes(16).toString('hex') }));
    return;
  }
  if (request.url === '/blob' || request.url === '/manifest') await push(body, request.url === '/manifest');
  else if (request.url === '/copy') await keep(body, true);
  else if (request.url === '/write') await note();
  response.writeHead(200).end('{}');
}

/** A blob or manifest: here and at one other before it is acknowledged; a manifest is linked and tagged as well. */
async function push(body: Buffer, isManifest: boolean): Promise<void> {
  const [first] = others;
  if (isManifest) await call(first!, 'POST', '/read');
  await keep(body, false);
  await Promise.all([note(), Promise.race(others.map((other) => call(other, 'PUT', '/copy', body)))]);
  await note();
  if (!isManifest) return;
  await Promise.all([note(), call(first!, 'POST', '/write')]);
  await Promise.all([note(), Promise.race(others.map((other) => call(other, 'POST', '/write')))]);
  await call(first!, 'POST', '/read');
}

/** Content and what is known of it, each written, synced, renamed, its folder synced; then their record. */
async function keep(body: Buffer, isCopy: boolean): Promise<void> {
  const digest = createHash('sha256').update(body).digest();
  await Promise.all([keepFile('blobs', digest, body), keepFile('meta', digest, body.subarray(0, 200))]);
  if (isCopy) await note();
}

async function keepFile(kind: string, digest: Buffer, bytes: Buffer): Promise<void> {
  const temporary = join(dir, `tmp-${files++}`);
  const file = await open(temporary, 'wx');
  await file.write(bytes, 0, bytes.length, 0);
  if (isSynced) await file.datasync();
  await file.close();
  const folder = shardOf(kind, digest[0]!);
  await rename(temporary, join(folder, digest.toString('hex')));
  if (!isSynced) return;
  const handle = openSync(folder, 'r');
  await syncOf(handle);
  closeSync(handle);
}

/** A record in the log: those that wait are synced together. */
async function note(): Promise<void> {
  const done = new Promise<void>((resolve) => waiting.push(resolve));
  if (!isWriting) void writeNotes();
  await done;
}

async function writeNotes(): Promise<void> {
  isWriting = true;
  while (waiting.length > 0) {
    const group = waiting;
    waiting = [];
    await log!.write(Buffer.alloc(300 * group.length, 7));
    if (isSynced) await log!.datasync();
    for (const resolve of group) resolve();
  }
  isWriting = false;
}

async function call(
  to: Pool,
  method: Dispatcher.HttpMethod,
  path: string,
  body: Buffer | null = null,
): Promise<string> {
  const answered = await to.request({ method, path, body });
  const text = await answered.body.text();
  if (answered.statusCode >= 300) throw new Error(`${method} ${path}: ${answered.statusCode}`);
  return text;
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function shardOf(kind: string, shard: number): string {
  return join(dir, kind, shard.toString(16).padStart(2, '0'));
}
