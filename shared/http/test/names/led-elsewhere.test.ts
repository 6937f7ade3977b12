import { Readable } from 'node:stream';
import { MemberClock } from '@sepia/base/clock/member-clock';
import { isCoded } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { createApp } from '../../src/app.ts';
import { InternalClient, type InternalRequest } from '../../src/client.ts';
import { createGate } from '../../src/gate.ts';
import { HttpListener } from '../../src/listener.ts';
import { CallVerifier } from '../../src/sign.ts';
import { createDispatcher } from '../../src/sockets.ts';

const KEY = Buffer.alloc(32, 7);

async function member(t: Test, id: string, listen: string): Promise<HttpListener> {
  const gate = createGate({ open: {}, verifier: new CallVerifier({ clusterKey: KEY, selfId: id }) });
  const app = createApp({ log: silentLogger(), gate });
  app.use((ctx) => {
    ctx.body = id;
  });
  const listener = await HttpListener.start(app.callback(), listen, 'listen');
  t.teardown(() => listener.stop(0));
  return listener;
}

/** A body that is sent as it comes. */
function stream(bytes: number): Pick<InternalRequest, 'body' | 'headers' | 'method' | 'path'> {
  const body = Readable.from([Buffer.alloc(bytes)]);
  return { method: 'PUT', path: '/v1/uploads/u', headers: { 'content-length': String(bytes) }, body };
}

t.test('who was led to another member is not kept there once the name is right', async (t) => {
  const right = await member(t, 'origin-1', '127.0.0.1:0');
  const { port } = new URL(right.url);
  await member(t, 'origin-2', `127.0.0.2:${port}`);
  const calls = {
    'no body': () => ({ method: 'GET', path: '/v1/x' }) as const,
    'a body signed by its hash': () => ({ method: 'POST', path: '/v1/x', body: 'y'.repeat(1000) }) as const,
    'a short stream': () => stream(1000),
    'a long stream': () => stream(1_000_000),
  };
  for (const [what, made] of Object.entries(calls)) {
    let address = '127.0.0.2';
    const dispatcher = createDispatcher({
      connections: 1,
      lookup: (_, { all }, done) =>
        all === true ? done(null, [{ address, family: 4 }]) : done(null, address, 4),
    });
    t.teardown(() => dispatcher.destroy());
    const client = new InternalClient({
      dispatcher,
      clusterKey: KEY,
      memberId: 'proxy-1',
      clock: new MemberClock(),
    });
    const url = `http://origin-1.cluster.example:${port}`;
    const ask = async (): Promise<string> =>
      await client.bytes({ url, to: 'origin-1', headersTimeoutMs: 5_000, ...made() }).then(
        ({ bytes }) => bytes.toString(),
        (error: unknown) => (isCoded(error) ? error.code : String(error)),
      );
    t.match(await ask(), /^(?:SIGNATURE_INVALID|PEER_HTTP)$/, `${what}: another one takes no call`);
    address = '127.0.0.1';
    await until(async () => (await ask()) === 'origin-1', `${what}: the right one is asked`);
  }
});
