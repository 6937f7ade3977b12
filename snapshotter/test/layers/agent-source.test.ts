import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createDispatcher } from '@sepia/http/sockets';
import t from 'tap';
import { AgentSource } from '../../src/layers/agent-source.ts';

const LAYER = { host: 'registry.example:5000', repository: 't/app', digest: `sha256:${'a'.repeat(64)}` };
const BLOB = Buffer.from(Array.from({ length: 1000 }, (_none, index) => index % 256));
const NEVER = new AbortController().signal;

async function sourceOf(
  t: { teardown(done: () => unknown): void },
  answer: RequestListener,
  deadlineMs = 10_000,
): Promise<AgentSource> {
  const server = createServer(answer);
  await new Promise<void>((settle) => server.listen(0, '127.0.0.1', settle));
  const dispatcher = createDispatcher();
  t.teardown(async () => {
    await dispatcher.destroy();
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return new AgentSource({ dispatcher }, { url: `http://127.0.0.1:${port}`, deadlineMs });
}

t.test('a range is asked for by repository and digest', async (t) => {
  const seen: string[] = [];
  const source = await sourceOf(t, (request, response) => {
    seen.push(`${request.method} ${request.url} ${request.headers.range}`);
    response.writeHead(206, { 'content-range': 'bytes 10-19/1000' }).end(BLOB.subarray(10, 20));
  });
  t.ok((await source.read(LAYER, 10, 20, NEVER)).equals(BLOB.subarray(10, 20)));
  t.same(seen, [`GET /v2/t/app/blobs/${LAYER.digest}?ns=registry.example%3A5000 bytes=10-19`]);
});

t.test('an agent that sends the whole blob is read as far as needed', async (t) => {
  const source = await sourceOf(t, (_request, response) => void response.end(BLOB));
  t.ok((await source.read(LAYER, 300, 555, NEVER)).equals(BLOB.subarray(300, 555)));
  t.ok((await source.read(LAYER, 990, 1000, NEVER)).equals(BLOB.subarray(990)));
});

t.test('how much is there is told while it comes', async (t) => {
  const rest = Promise.withResolvers<void>();
  const source = await sourceOf(t, (_request, response) => {
    response.writeHead(206, { 'content-range': 'bytes 10-19/1000' }).write(BLOB.subarray(10, 14));
    void rest.promise.then(() => response.end(BLOB.subarray(14, 20)));
  });
  const told: [length: number, bytes: string][] = [];
  const whole = await source.read(LAYER, 10, 20, NEVER, (bytes, length) => {
    told.push([length, bytes.toString('hex', 0, length)]);
    rest.resolve();
  });
  t.same(told, [[4, BLOB.toString('hex', 10, 14)]]);
  t.ok(whole.equals(BLOB.subarray(10, 20)));
});

t.test('an agent without a source, that cuts or that sends another range is asked again', async (t) => {
  let calls = 0;
  const source = await sourceOf(t, (request, response) => {
    calls += 1;
    if (calls === 1) response.writeHead(503).end('{"errors":[]}');
    else if (calls === 2)
      response.writeHead(206, { 'content-range': 'bytes 0-9/1000' }).end(BLOB.subarray(0, 5));
    else if (calls === 3) request.socket.destroy();
    else if (calls === 4)
      response.writeHead(206, { 'content-range': 'bytes 7-9/1000' }).end(BLOB.subarray(7, 10));
    else response.writeHead(206, { 'content-range': 'bytes 0-9/1000' }).end(BLOB.subarray(0, 10));
  });
  t.ok((await source.read(LAYER, 0, 10, NEVER)).equals(BLOB.subarray(0, 10)));
  t.equal(calls, 5);
});

t.test('a refusal ends at once, silence at the deadline, a signal with its reason', async (t) => {
  const denied = await sourceOf(t, (_request, response) => void response.writeHead(403).end());
  await t.rejects(denied.read(LAYER, 0, 10, NEVER), { code: 'AUTH_DENIED' });
  const silent = await sourceOf(t, () => undefined, 300);
  await t.rejects(silent.read(LAYER, 0, 10, NEVER), { code: 'TIMEOUT' });
  const abort = new AbortController();
  const reading = silent.read(LAYER, 0, 10, abort.signal);
  abort.abort(new Error('no more'));
  await t.rejects(reading, { message: 'no more' });
});

t.test('a layer whose repository is gone is read by another that has it, at once from then on', async (t) => {
  const asked: string[] = [];
  let served = 't/other';
  let refusal = 404;
  const source = await sourceOf(t, (request, response) => {
    const repository = /^\/v2\/(.+)\/blobs\//.exec(request.url!)![1]!;
    asked.push(repository);
    if (repository !== served) return void response.writeHead(refusal).end();
    response.writeHead(206, { 'content-range': 'bytes 0-9/1000' }).end(BLOB.subarray(0, 10));
  });
  const others = ['t/gone', 't/other'].map((repository) => ({ host: LAYER.host, repository }));
  const read = async (): Promise<string> => {
    asked.length = 0;
    const bytes = await source.read({ ...LAYER, others }, 0, 10, NEVER);
    t.ok(bytes.equals(BLOB.subarray(0, 10)));
    return asked.join(' ');
  };
  t.equal(await read(), 't/app t/gone t/other');
  t.equal(await read(), 't/other');
  served = 't/gone';
  for (refusal of [401, 403, 503, 404]) {
    t.match(await read(), / t\/gone$/, `others answer ${refusal}`);
    served = served === 't/gone' ? 't/app' : 't/gone';
    await read();
    served = 't/gone';
  }
});

t.test('refused by all repositories a layer is waited for, unless every one denies it', async (t) => {
  const answers = new Map([
    ['t/app', 403],
    ['t/other', 404],
  ]);
  const source = await sourceOf(
    t,
    (request, response) => {
      response.writeHead(answers.get(/^\/v2\/(.+)\/blobs\//.exec(request.url!)![1]!)!).end();
    },
    300,
  );
  const layer = { ...LAYER, others: [{ host: LAYER.host, repository: 't/other' }] };
  await t.rejects(source.read(layer, 0, 10, NEVER), { code: 'TIMEOUT' });
  answers.set('t/other', 401);
  await t.rejects(source.read(layer, 10, 20, NEVER), { code: 'AUTH_DENIED' });
});

t.test('what was waited for in vain is not waited for again while the agent is silent', async (t) => {
  const asked: string[] = [];
  let isHung = true;
  const source = await sourceOf(
    t,
    (request, response) => {
      const { range } = request.headers;
      asked.push(range ?? 'sign');
      if (isHung) return;
      if (range === undefined) response.writeHead(401).end();
      else response.end(BLOB);
    },
    300,
  );
  await t.rejects(source.read(LAYER, 0, 100, NEVER), { code: 'TIMEOUT' });
  t.same(asked, ['bytes=0-99']);
  await t.rejects(source.read(LAYER, 50, 60, NEVER), { code: 'TIMEOUT' });
  t.same(asked, ['bytes=0-99', 'sign'], 'the same bytes: the agent gives no sign');
  await t.rejects(source.read(LAYER, 200, 300, NEVER), { code: 'TIMEOUT' });
  t.same(asked.slice(2), ['bytes=200-299'], 'others are waited for');
  isHung = false;
  t.ok((await source.read(LAYER, 50, 60, NEVER)).equals(BLOB.subarray(50, 60)));
  t.same(asked.slice(3), ['sign', 'bytes=50-59'], 'it answers: all is as before');
  t.ok((await source.read(LAYER, 0, 100, NEVER)).equals(BLOB.subarray(0, 100)));
  t.same(asked.slice(5), ['bytes=0-99']);
});

t.test('a layer that is not in its repository is waited for, or not', async (t) => {
  let asked = 0;
  const answer: RequestListener = (_request, response) => {
    asked += 1;
    response.writeHead(404).end('{"errors":[]}');
  };
  const source = await sourceOf(t, answer, 300);
  const code = 'BLOB_UNKNOWN';
  await t.rejects(source.read(LAYER, 0, 100, NEVER), { code: 'TIMEOUT', cause: { code } });
  t.ok(asked > 1, 'it may come');
  asked = 0;
  await t.rejects(source.readIfThere(LAYER, 200, 300, NEVER), { code, detail: LAYER });
  t.equal(asked, 1);
});

t.test('what an agent refused for a whole deadline is asked for once, until bytes of it come', async (t) => {
  const asked: string[] = [];
  let isGone = true;
  const source = await sourceOf(
    t,
    (request, response) => {
      asked.push(request.headers.range ?? 'sign');
      if (isGone) response.writeHead(503).end('{"errors":[]}');
      else response.end(BLOB);
    },
    2_500,
  );
  const refused = { code: 'TIMEOUT', cause: { code: 'NO_PEERS' } };
  await t.rejects(source.read(LAYER, 0, 100, NEVER), refused);
  t.ok(asked.length > 1, 'it is waited for');
  // A refusal late in the first deadline may leave a rest of it.
  await t.rejects(source.read(LAYER, 200, 300, NEVER), refused);
  for (const start of [400, 600, 400]) {
    asked.length = 0;
    await t.rejects(source.read(LAYER, start, start + 100, NEVER), refused);
    const range = `bytes=${start}-${start + 99}`;
    t.same(
      asked.filter((one) => one !== 'sign'),
      [range],
    );
  }
  isGone = false;
  t.ok((await source.read(LAYER, 400, 500, NEVER)).equals(BLOB.subarray(400, 500)));
  isGone = true;
  asked.length = 0;
  await t.rejects(source.read(LAYER, 400, 500, NEVER), refused);
  t.ok(asked.length > 1, 'it was back: it is waited for again');
});
