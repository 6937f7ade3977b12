import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { MemberClock } from '@sepia/base/clock/member-clock';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { InternalClient, type InternalRequest } from '../src/client.ts';
import { createMemberSockets } from '../src/sockets.ts';

/** A member that never answers what begins with `/hangs`, and who calls it. */
async function hangingMember(t: Test) {
  let hung = 0;
  const server = createServer((req, res) => {
    if (req.url?.startsWith('/hangs') === true) hung += 1;
    else res.end('{}');
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { sockets, destroy } = createMemberSockets();
  const gone = new AbortController();
  t.teardown(async () => {
    gone.abort(new Error('the test is over'));
    await destroy();
    server.closeAllConnections();
    server.close();
  });
  const clusterKey = Buffer.alloc(32, 1);
  const client = new InternalClient({
    ...{ clusterKey, memberId: 'asker', clock: new MemberClock() },
    ...sockets,
  });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const call = async (path: string, more: Partial<InternalRequest>): Promise<void> => {
    const asked = { url, to: 'o1', method: 'GET', path, headersTimeoutMs: 60_000 } as const;
    await client.bytes({ ...asked, signal: gone.signal, ...more });
  };
  const hang = (count: number, more: () => Partial<InternalRequest>): void => {
    for (let at = 0; at < count; at++) call('/hangs', more()).catch(() => undefined);
  };
  return { call, hang, hung: () => hung };
}

async function* chunk(): AsyncGenerator<Uint8Array> {
  yield Buffer.from('x');
}

t.test('a body is read however many are sent', async (t) => {
  const { call, hang, hung } = await hangingMember(t);
  hang(100, () => ({ method: 'PUT', headers: { 'content-length': '1' }, body: chunk() }));
  hang(100, () => ({ method: 'PUT', lasts: 'body', body: 'a small one, gathered before' }));
  await until(() => hung() === 64, 'as many are under way as there are sockets');
  await call('/blob', { lasts: 'body' });
  t.equal(hung(), 64);
});

t.test('who waits for one registry holds up nobody who waits for another', async (t) => {
  const { call, hang, hung } = await hangingMember(t);
  hang(200, () => ({ lasts: 'wait' }));
  await until(() => hung() === 200, 'all of them wait at the member');
  await call('/blob', { lasts: 'wait' });
  t.equal(hung(), 200);
});
