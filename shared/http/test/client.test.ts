import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { MemberClock } from '@sepia/base/clock/member-clock';
import t, { type Test } from 'tap';
import { InternalClient } from '../src/client.ts';
import { createDispatcher } from '../src/sockets.ts';

const dispatcher = createDispatcher();
t.teardown(() => dispatcher.close());

function clientOf(): InternalClient {
  return new InternalClient({
    dispatcher,
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
