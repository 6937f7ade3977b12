import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { digestOf } from '../client.ts';
import { History } from '../history.ts';
import { isClean, readEverything, Traffic, textOf } from '../traffic.ts';

const AT = 'proxy-1';
const BLOBS = [{ seed: 5, sizeBytes: 40_000 }];

/** What a registry answers for a tag, a blob or a manifest; undefined: 404. */
type Lie = (kind: 'tag' | 'content', name: string, kept: Buffer | undefined) => Buffer | undefined;

/** A registry in memory that takes all that is pushed, and reads as `lies` says. */
async function registry(t: Test) {
  const content = new Map<string, Buffer>();
  const tags = new Map<string, string>();
  const world = { lies: ((_kind, _name, kept) => kept) as Lie, silentReads: 0 };
  const take = async (request: IncomingMessage): Promise<Buffer> => {
    const parts: Buffer[] = [];
    for await (const part of request) parts.push(part as Buffer);
    return Buffer.concat(parts);
  };
  let session: Buffer = Buffer.alloc(0);
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<number> => {
    const url = new URL(request.url!, 'http://registry.example');
    const name = url.pathname.split('/').at(-1)!;
    const isTag = url.pathname.includes('/manifests/') && !name.startsWith('sha256:');
    const body = await take(request);
    if (request.method === 'POST' || request.method === 'PATCH') {
      session = request.method === 'POST' ? Buffer.alloc(0) : body;
      response.setHeader('location', '/v2/torture/app/blobs/uploads/1');
      return 202;
    }
    if (request.method === 'PUT') {
      const bytes = url.searchParams.has('digest') ? Buffer.concat([session, body]) : body;
      content.set(digestOf(bytes), bytes);
      if (isTag) tags.set(name, digestOf(bytes));
      return 201;
    }
    if (request.method === 'DELETE') return tags.delete(name) ? 202 : 404;
    if (world.silentReads-- > 0) return 503;
    const kept = content.get(isTag ? (tags.get(name) ?? '') : name);
    const found = world.lies(isTag ? 'tag' : 'content', name, kept);
    if (found === undefined) return 404;
    const [, start = '0', end = ''] = /bytes=([0-9]+)-([0-9]+)/.exec(request.headers.range ?? '') ?? [];
    if (isTag) response.setHeader('docker-content-digest', digestOf(found));
    response.statusCode = end === '' ? 200 : 206;
    response.end(found.subarray(Number(start), end === '' ? undefined : Number(end) + 1));
    return 0;
  };
  const server = createServer(async (request, response) => {
    const status = await answer(request, response);
    if (status > 0) response.writeHead(status).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const history = new History();
  const traffic = new Traffic(
    history,
    () => url,
    () => performance.now(),
  );
  const push = async (tag: string, seed: number): Promise<string> => {
    const blobs = [...BLOBS, { seed, sizeBytes: 3_000 }];
    await traffic.run({ type: 'push', atMs: 0, tag, at: AT, pick: 0, blobs });
    return history.manifests.at(-1)!;
  };
  const readAll = async (): Promise<void> =>
    await readEverything(traffic, history, [AT], async (read) => await read());
  return { world, traffic, history, content, push, readAll };
}

t.test('a registry that keeps its word is found at nothing', async (t) => {
  const { traffic, push, readAll } = await registry(t);
  await push('t1', 1);
  await push('t1', 2);
  await push('t2', 3);
  await traffic.run({ type: 'delete', atMs: 0, tag: 't2', at: AT, pick: 0, blobs: [] });
  await traffic.run({ type: 'retag', atMs: 0, tag: 't3', at: AT, pick: 0, blobs: [] });
  await traffic.run({ type: 'read-range', atMs: 0, tag: 't1', at: AT, pick: 0.5, blobs: [] });
  await readAll();
  t.match(traffic.findings, { lost: 0, corrupt: 0, stale: 0, refused: 0, texts: [] });
  t.ok(traffic.findings.answered > 20, `${traffic.findings.answered} answers`);
});

t.test('a tag that is forgotten is lost, one that does not move is stale', async (t) => {
  const { world, traffic, content, push, readAll } = await registry(t);
  const first = await push('t1', 1);
  await push('t1', 2);
  world.lies = (kind, _name, kept) => (kind === 'tag' ? undefined : kept);
  await readAll();
  t.match(traffic.findings, { lost: 1, corrupt: 0, stale: 0 });
  world.lies = (kind, _name, kept) => (kind === 'tag' ? content.get(first) : kept);
  await readAll();
  t.match(traffic.findings, { lost: 1, corrupt: 0, stale: 1 });
});

t.test('a tag that was deleted and answers is stale, one that nobody pushed is corrupt', async (t) => {
  const { world, traffic, content, push, readAll } = await registry(t);
  const first = await push('t1', 1);
  await traffic.run({ type: 'delete', atMs: 0, tag: 't1', at: AT, pick: 0, blobs: [] });
  world.lies = (kind, _name, kept) => (kind === 'tag' ? content.get(first) : kept);
  await readAll();
  t.match(traffic.findings, { lost: 0, corrupt: 0, stale: 1 });
  world.lies = (kind, _name, kept) => (kind === 'tag' ? Buffer.from('{}') : kept);
  await readAll();
  t.match(traffic.findings, { lost: 0, corrupt: 1, stale: 1 });
});

t.test('content that is gone is lost; other bytes are corrupt, whole or of a range', async (t) => {
  const { world, traffic, history, push, readAll } = await registry(t);
  await push('t1', 1);
  const gone = history.blobs[0]!;
  world.lies = (_kind, name, kept) => (name === gone ? undefined : kept);
  await readAll();
  t.match(traffic.findings, { lost: 1, corrupt: 0, stale: 0 });
  world.lies = (kind, name, kept) => (name === gone && kind === 'content' ? flipped(kept!) : kept);
  await readAll();
  t.match(traffic.findings, { lost: 1, corrupt: 1, stale: 0 });
  await traffic.run({ type: 'read-range', atMs: 0, tag: 't1', at: AT, pick: 0.4, blobs: [] });
  t.match(traffic.findings, { lost: 1, corrupt: 2, stale: 0 });
});

t.test('what has no answer for certain is unanswered, which is a failure of its own name', async (t) => {
  const { traffic, history, push } = await registry(t);
  await push('t1', 1);
  t.ok(isClean(traffic.findings));
  t.equal(textOf(traffic.findings), 'lost 0, corrupt 0, stale 0');
  await readEverything(traffic, history, [AT], async () => false);
  const silent = history.content.length + history.tags.length;
  t.equal(textOf(traffic.findings), `lost 0, corrupt 0, stale 0, unanswered ${silent}`);
  t.notOk(isClean(traffic.findings));
  t.match(traffic.findings.texts[0], /^UNANSWERED proxy-1: tag t1 has no answer/);
});

t.test('a read that is answered at last was not lost', async (t) => {
  const { world, traffic, push, history } = await registry(t);
  await push('t1', 1);
  world.silentReads = 7;
  let tries = 0;
  await readEverything(traffic, history, [AT], async (read) => {
    while (!(await read())) tries += 1;
    return true;
  });
  t.equal(tries, 7);
  t.equal(textOf(traffic.findings), 'lost 0, corrupt 0, stale 0');
});

function flipped(bytes: Buffer): Buffer {
  const other = Buffer.from(bytes);
  for (const at of other.keys()) other[at]! ^= 1;
  return other;
}
