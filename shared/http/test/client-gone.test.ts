import { once } from 'node:events';
import { createServer, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Context } from 'koa';
import t from 'tap';
import { goneSignal } from '../src/client-gone.ts';

t.test('the signal of an answer whose client went before it was asked for is aborted', async (t) => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  const outgoing = request({ port, host: '127.0.0.1' }).on('error', () => undefined);
  outgoing.end();
  const [, res] = (await once(server, 'request')) as [unknown, ServerResponse];
  const early = goneSignal({ res } as Pick<Context, 'res'>);
  t.equal(early.aborted, false, 'it waits');
  outgoing.destroy();
  await once(res, 'close');
  t.match(early.reason, { code: 'TIMEOUT' });
  t.match(
    goneSignal({ res } as Pick<Context, 'res'>).reason,
    { code: 'TIMEOUT' },
    'nothing more is heard of it',
  );
});
