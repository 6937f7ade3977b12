import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, LookupFunction } from 'node:net';
import { Readable } from 'node:stream';
import { MemberClock } from '@sepia/base/clock/member-clock';
import { CodedError } from '@sepia/base/errors';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { Agent } from 'undici';
import { InternalClient, type InternalRequest } from '../src/client.ts';
import { createDispatcher } from '../src/sockets.ts';

const dispatcher = createDispatcher();
t.teardown(() => dispatcher.close());

function clientOf(over = dispatcher): InternalClient {
  return new InternalClient({
    dispatcher: over,
    clusterKey: Buffer.alloc(32, 7),
    memberId: 'a',
    clock: new MemberClock(),
  });
}

async function answering(t: Test, status: number, body: string): Promise<string> {
  const server: Server = createServer((_req, res) => {
    res.statusCode = status;
    res.end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

t.test('who was not asked for want of a socket of ours is not silent', async (t) => {
  for (const code of ['EMFILE', 'ENFILE']) {
    const cause = Object.assign(new Error(`connect ${code} 127.0.0.1:1`), { code });
    const none = new Agent({ connect: (_, done) => done(cause, null) });
    t.teardown(() => none.destroy());
    const client = new InternalClient({
      dispatcher: none,
      clusterKey: Buffer.alloc(32, 7),
      memberId: 'a',
      clock: new MemberClock(),
    });
    const call = {
      url: 'http://127.0.0.1:1',
      to: 'b',
      method: 'GET',
      path: '/',
      headersTimeoutMs: 1_000,
    } as const;
    for (const asked of [client.raw(call), client.bytes(call), client.json(call)])
      await t.rejects(asked, { code: 'MEMBER_BUSY', cause, message: /raise its limit of open files/ });
  }
});

t.test('silence is PEER_HTTP, with the cause', async (t) => {
  const call = {
    url: 'http://127.0.0.1:1',
    method: 'GET',
    path: '/',
    headersTimeoutMs: 1_000,
    to: 'b',
  } as const;
  await t.rejects(clientOf().raw(call), { code: 'PEER_HTTP', cause: { code: 'ECONNREFUSED' } });
});

t.test('of a name that leads nowhere it is told that it does', async (t) => {
  for (const [code, why] of [
    ['ENOTFOUND', 'its name has no address'],
    ['EAI_AGAIN', 'no name server answers for its name'],
  ]) {
    const lookup: LookupFunction = (name, _, done) =>
      done(Object.assign(new Error(`getaddrinfo ${code} ${name}`), { code }), []);
    const unnamed = createDispatcher({ lookup });
    t.teardown(() => unnamed.destroy());
    const url = 'http://origin-1.cluster.example:17200';
    const call = { url, to: 'b', method: 'GET', path: '/', headersTimeoutMs: 1_000 } as const;
    for (const way of ['raw', 'bytes', 'json'] as const)
      await t.rejects(clientOf(unnamed)[way](call) as Promise<unknown>, {
        code: 'PEER_HTTP',
        message: `${url} does not answer: ${why}`,
      });
  }
});

t.test('a call that our own code made wrongly is no silence of the member', async (t) => {
  const url = await answering(t, 200, '{}');
  const wrong = [
    { headersTimeoutMs: -1 },
    { headersTimeoutMs: 1_000, headers: { 'x-name': 'two\nlines' } },
    { headersTimeoutMs: 1_000, body: 7 as unknown as string },
  ];
  for (const part of wrong) {
    const error: unknown = await clientOf()
      .raw({ url, to: 'b', method: 'POST', path: '/', ...part })
      .then(
        () => undefined,
        (thrown: unknown) => thrown,
      );
    t.ok(error instanceof Error && (error as { code?: string }).code !== 'PEER_HTTP', String(error));
  }
});

t.test('an error answer of any form is the coded error of its status, never a bug here', async (t) => {
  for (const body of [
    'null',
    '[]',
    '5',
    '{"errors":null}',
    '{"errors":[null]}',
    '{"errors":"x"}',
    '<html>',
    '',
  ]) {
    const url = await answering(t, 503, body);
    const call = { url, method: 'GET', path: '/', headersTimeoutMs: 1_000, to: 'b' } as const;
    await t.rejects(clientOf().call(call), { code: 'PEER_HTTP', detail: { status: 503 } }, body);
  }
});

/** A server whose answers `answer` makes; what came is in `got`. */
async function serving(
  t: Test,
  answer: (res: ServerResponse) => void,
): Promise<{ readonly call: InternalRequest; readonly got: { calls: number; gone: boolean } }> {
  const got = { calls: 0, gone: false };
  const server = createServer((_req, res) => {
    got.calls += 1;
    res.once('close', () => {
      got.gone = !res.writableEnded;
    });
    answer(res);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { call: { url, method: 'GET', path: '/a?b=1', headersTimeoutMs: 10_000, to: 'b' }, got };
}

t.test('a whole answer: in one piece or several, or none', async (t) => {
  const parts = await serving(t, (res) => {
    res.write('one');
    setImmediate(() => res.end('two'));
  });
  const answer = await clientOf().bytes(parts.call);
  t.same([answer.status, answer.bytes.toString()], [200, 'onetwo']);
  const none = await serving(t, (res) => res.writeHead(204).end());
  t.equal((await clientOf().bytes(none.call)).bytes.length, 0);
  t.equal(await clientOf().json(none.call), undefined);
});

t.test('a whole answer that is cut, too long or an error is told as such', async (t) => {
  const cut = await serving(t, (res) => {
    res.writeHead(200, { 'content-length': '10' });
    res.write('half', () => res.destroy());
  });
  await t.rejects(clientOf().bytes(cut.call), { code: 'PEER_HTTP', message: /was cut/ });
  const long = await serving(t, (res) => res.end('x'.repeat(100)));
  await t.rejects(clientOf().bytes(long.call, 99), { code: 'PEER_HTTP', detail: { limitBytes: 99 } });
  t.equal((await clientOf().bytes(long.call, 100)).bytes.length, 100);
  const error = await serving(t, (res) => {
    res.writeHead(404, { 'sepia-error': 'BLOB_UNKNOWN' });
    res.end('{"errors":[{"message":"not here","detail":{"digest":"d"}}]}');
  });
  await t.rejects(clientOf().bytes(error.call), {
    code: 'BLOB_UNKNOWN',
    message: 'not here',
    detail: { status: 404, digest: 'd' },
  });
  const cutError = await serving(t, (res) => {
    res.writeHead(503, { 'sepia-error': 'DRAINING', 'content-length': '10' });
    res.write('{', () => res.destroy());
  });
  await t.rejects(clientOf().bytes(cutError.call), { code: 'DRAINING', detail: { status: 503 } });
});

t.test('a whole answer ends with the reason of its signal, before its head and in its body', async (t) => {
  for (const [title, answer] of [
    ['before its head', () => undefined],
    ['in its body', (res: ServerResponse) => res.writeHead(200).write('half')],
  ] as const) {
    const { call, got } = await serving(t, (res) => void answer(res));
    const stop = new AbortController();
    const asked = clientOf().bytes({ ...call, signal: stop.signal });
    await until(() => got.calls === 1, 'the call is there');
    stop.abort(new CodedError('DRAINING'));
    await t.rejects(asked, { code: 'DRAINING' }, title);
    await until(() => got.gone, 'the connection is cut');
    await t.rejects(clientOf().bytes({ ...call, signal: stop.signal }), { code: 'DRAINING' });
    t.equal(got.calls, 1, 'a call that is over before it begins is not sent');
  }
});

t.test(
  'who gives up in the body gets their own reason, whatever it is: the member was not silent',
  async (t) => {
    const half = await serving(t, (res) => void res.writeHead(200).write('half'));
    for (const more of [{}, { method: 'POST', body: Readable.from(['sent']) }] as const) {
      const client = clientOf();
      let heads = 0;
      client.onAnswer(() => {
        heads += 1;
      });
      const stop = new AbortController();
      const asked = client.bytes({ ...half.call, ...more, signal: stop.signal });
      await until(() => heads === 1, 'the head is there');
      const reason = new DOMException('late', 'TimeoutError');
      stop.abort(reason);
      t.equal(await asked.catch((error: unknown) => error), reason);
    }
  },
);

t.test('a listener that fails is a bug, also of a whole answer', async (t) => {
  for (const status of [200, 503]) {
    const { call } = await serving(t, (res) => res.writeHead(status).end('{}'));
    const client = clientOf();
    client.onAnswer(() => {
      throw new TypeError('wrong code');
    });
    await t.rejects(client.bytes(call), TypeError, String(status));
  }
});
