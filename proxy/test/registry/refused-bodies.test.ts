import { createServer, request } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Cluster } from '@sepia/cluster/cluster';
import { until } from '@sepia/test-support/until';
import type { Context } from 'koa';
import t, { type Test } from 'tap';
import { RequestBody } from '../../src/bodies/request-body.ts';
import { PushGate } from '../../src/registry/push-gate.ts';

/** More than the system keeps of a connection at both ends. */
const BODY = Buffer.alloc(16 * 1024 * 1024);

/** Sends a large body to a gate with so many places, where `work` fails at once. The answer's status, once all of it is sent. */
async function send(t: Test, places: number): Promise<number | undefined> {
  const limits = { all: places, perAccount: 1, perAddress: 1, heldBytes: 1 };
  const gate = new PushGate({ cluster: {} as Cluster }, limits);
  const server = createServer((req, res) => {
    const ctx = { req, res, state: {} } as unknown as Context;
    new RequestBody(req);
    const fail = async (): Promise<never> => {
      throw new Error('not wanted');
    };
    gate.run(ctx, fail).catch(() => res.writeHead(429).end());
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.close();
    server.closeAllConnections();
  });
  const { port } = server.address() as AddressInfo;
  const client = request({ port, method: 'PATCH', headers: { 'content-length': String(BODY.length) } });
  client.on('error', () => undefined);
  let status: number | undefined;
  client.on('response', (answer) => {
    status = answer.statusCode;
    answer.resume();
  });
  client.end(BODY);
  await until(() => client.writableFinished && status !== undefined, 'all is sent, and answered');
  return status;
}

t.test('a body that is refused a place is read on: its client sees why', async (t) => {
  t.equal(await send(t, 0), 429);
});

t.test('a body whose request fails before any of it was wanted is read on', async (t) => {
  t.equal(await send(t, 1), 429);
});
