import { createServer as createHttp } from 'node:http';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { silentLogger } from '@sepia/base/log';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { request } from 'undici';
import { createDispatcher, createHttpServer } from '../src/sockets.ts';
import { memberEncryption } from '../src/tls/cluster-encryption.ts';
import { listenerTls } from '../src/tls/listener-tls.ts';

const FIRST = 'http://127.0.0.2:1';

async function listening(t: Test, server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

t.test('who is not at its first address is dialled at the others, in order', async (t) => {
  const [second, third] = await Promise.all(
    ['second', 'third'].map((text) =>
      listening(
        t,
        createHttp((_, res) => res.end(text)),
      ),
    ),
  );
  const asked: string[] = [];
  const dispatcher = createDispatcher({
    furtherAddresses: (origin) => {
      asked.push(origin);
      return [second!, third!];
    },
  });
  t.teardown(() => dispatcher.destroy());
  const { body } = await request(`${FIRST}/path`, { dispatcher });
  t.equal(await body.text(), 'second');
  t.same(asked, [FIRST]);
});

t.test('with none that answers the error is that of the first', async (t) => {
  const dispatcher = createDispatcher({ furtherAddresses: () => ['http://127.0.0.3:2', 'http://[::1]:3'] });
  t.teardown(() => dispatcher.destroy());
  await t.rejects(request(FIRST, { dispatcher }), { code: 'ECONNREFUSED', address: '127.0.0.2', port: 1 });
});

t.test('who has one address fails by it', async (t) => {
  const dispatcher = createDispatcher({ furtherAddresses: () => [] });
  t.teardown(() => dispatcher.destroy());
  await t.rejects(request(FIRST, { dispatcher }), { code: 'ECONNREFUSED', address: '127.0.0.2' });
});

t.test('one that takes the connection and answers nothing is asked last at the next try', async (t) => {
  let closed = 0;
  const heard: string[] = [];
  const mute = createServer((socket) => {
    socket.on('error', () => undefined).on('close', () => (closed += 1));
    socket.on('data', (chunk) => heard.push(chunk.toString().split(' ')[1]!));
  });
  const first = await listening(t, mute);
  const second = await listening(
    t,
    createHttp((_, res) => res.end('second')),
  );
  const dispatcher = createDispatcher({ furtherAddresses: () => [second] });
  t.teardown(() => dispatcher.destroy());
  const asked = request(`${first}/one`, { dispatcher, headersTimeout: 1_000 });
  await t.rejects(asked, { code: 'UND_ERR_HEADERS_TIMEOUT' });
  await until(() => closed === 1, 'its connection is given up');
  for (const path of ['two', 'three']) {
    const { body } = await request(`${first}/${path}`, { dispatcher });
    t.equal(await body.text(), 'second');
  }
  t.same(heard, ['/one']);
});

t.test('one that takes the connection and never shakes hands is not waited for', async (t) => {
  const encryption = memberEncryption('require', Buffer.alloc(32, 7))!;
  const met: Socket[] = [];
  const mute = await listening(
    t,
    createServer((socket) => void met.push(socket.on('error', () => undefined))),
  );
  t.teardown(() => {
    for (const socket of met) socket.destroy();
  });
  const tls = listenerTls({ log: silentLogger(), nowMs: () => 0 }, { key: 'listen', encryption })!;
  const { server } = createHttpServer((_, res) => void res.end('here'), tls);
  const good = await listening(t, server);
  const dispatcher = createDispatcher({
    encryption,
    furtherAddresses: (origin) => (origin === mute ? [good] : []),
  });
  t.teardown(() => dispatcher.destroy());
  const { body } = await request(mute, { dispatcher });
  t.equal(await body.text(), 'here');
  t.equal(met.length, 1);
});
