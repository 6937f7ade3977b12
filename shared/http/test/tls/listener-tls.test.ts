import { once } from 'node:events';
import { unlinkSync, utimesSync, writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer as createHttps } from 'node:https';
import { connect, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { connect as connectTls, type TLSSocket } from 'node:tls';
import { MemberClock } from '@sepia/base/clock/member-clock';
import type { Encryption } from '@sepia/base/config/encryption';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { steadyMs } from '@sepia/base/reach';
import { rawHttp } from '@sepia/test-support/clients/raw-http';
import { LogLines } from '@sepia/test-support/log-lines';
import { FAKE_TLS, RENEWED_TLS } from '@sepia/test-support/upstream/fake-upstream-tls';
import t, { type Test } from 'tap';
import { request } from 'undici';
import { createApp } from '../../src/app.ts';
import { InternalClient } from '../../src/client.ts';
import { createGate } from '../../src/gate.ts';
import { HttpListener } from '../../src/listener.ts';
import { OPEN_ROUTES } from '../../src/open-routes.ts';
import { CallVerifier } from '../../src/sign.ts';
import { createDispatcher } from '../../src/sockets.ts';
import { isByClusterKey, type MemberEncryption, memberEncryption } from '../../src/tls/cluster-encryption.ts';
import { checkListeners, type ListenerTls, listenerTls } from '../../src/tls/listener-tls.ts';

const KEY = Buffer.alloc(32, 7);
const OTHER_KEY = Buffer.alloc(32, 8);
const QUIET = { log: silentLogger(), nowMs: steadyMs };

const isEncrypted = ({ socket }: IncomingMessage): boolean => (socket as TLSSocket).encrypted === true;
const say = (req: IncomingMessage, res: ServerResponse): void =>
  void req.resume().on('end', () => res.end(isEncrypted(req) ? 'encrypted' : 'plain'));

/** Certificate and key of a listener in files of their own. */
function filesOf(t: Test): { 'certificate-file': string; 'key-file': string } {
  const dir = t.testdir({ 'tls.crt': FAKE_TLS.cert, 'tls.key': FAKE_TLS.key });
  return { 'certificate-file': join(dir, 'tls.crt'), 'key-file': join(dir, 'tls.key') };
}

async function start(t: Test, tls: ListenerTls | undefined): Promise<HttpListener> {
  const listener = await HttpListener.start(say, '127.0.0.1:0', 'listen', { tls });
  t.teardown(() => listener.stop(0));
  return listener;
}

function memberSockets(t: Test, encryption: MemberEncryption | undefined, readsBodies = false) {
  const dispatcher = createDispatcher({ encryption, readsBodies });
  t.teardown(() => dispatcher.destroy());
  return dispatcher;
}

const ask = async (url: string, dispatcher: ReturnType<typeof createDispatcher>): Promise<string> => {
  const { body } = await request(url, { dispatcher, method: 'POST', body: 'question' });
  return await body.text();
};

t.test('no policy and no certificate: nothing stands before the server', async (t) => {
  t.equal(memberEncryption('off', KEY), undefined);
  t.equal(listenerTls(QUIET, { key: 'listen' }), undefined);
  const listener = await start(t, undefined);
  t.match(listener.url, /^http:/);
  t.equal(await ask(listener.url, memberSockets(t, undefined)), 'plain');
});

t.test(
  'members with one cluster key meet by TLS, each step of the policy with the one before it',
  async (t) => {
    const steps: readonly Encryption[] = ['off', 'accept', 'on', 'require'];
    const said: Record<string, string> = {};
    for (const [at, callee] of steps.entries())
      for (const caller of steps.slice(Math.max(0, at - 1), at + 2)) {
        const encryption = memberEncryption(callee, KEY);
        const listener = await start(t, listenerTls(QUIET, { key: 'listen', encryption }));
        const dispatcher = memberSockets(t, memberEncryption(caller, KEY), at % 2 === 0);
        said[`${caller} to ${callee}`] = await ask(listener.url, dispatcher);
      }
    t.same(said, {
      'off to off': 'plain',
      'accept to off': 'plain',
      'off to accept': 'plain',
      'accept to accept': 'plain',
      'on to accept': 'encrypted',
      'accept to on': 'plain',
      'on to on': 'encrypted',
      'require to on': 'encrypted',
      'on to require': 'encrypted',
      'require to require': 'encrypted',
    });
  },
);

t.test('another key, or none, comes to nothing, and the listener goes on', async (t) => {
  const encryption = memberEncryption('require', KEY);
  const log = new LogLines();
  const listener = await start(t, listenerTls({ ...QUIET, log: log.logger }, { key: 'listen', encryption }));
  const other = memberSockets(t, memberEncryption('on', OTHER_KEY));
  for (let time = 0; time < 3; time++) await t.rejects(ask(listener.url, other));
  const [line] = log.lines;
  t.equal(log.lines.length, 1, 'a line a minute');
  t.match(line, {
    key: 'listen',
    address: '127.0.0.1',
    reason: 'ERR_SSL_BINDER_DOES_NOT_VERIFY',
    msg: /another cluster key/,
  });
  const client = new InternalClient({
    dispatcher: other,
    clusterKey: OTHER_KEY,
    memberId: 'a',
    clock: new MemberClock(),
  });
  const call = { url: listener.url, to: 'b', method: 'GET', path: '/', headersTimeoutMs: 5_000 } as const;
  await t.rejects(client.raw(call), { code: 'PEER_HTTP', message: /it has another cluster key$/ });
  const plain = await start(t, undefined);
  await t.rejects(client.raw({ ...call, url: plain.url }), {
    code: 'PEER_HTTP',
    message: /it takes no encryption/,
  });
  const bare = connectTls({ port: listener.port, host: '127.0.0.1', rejectUnauthorized: false });
  await t.rejects(once(bare, 'secureConnect'));
  const torn = connect(listener.port, '127.0.0.1');
  torn.end(Buffer.from([22, 3, 1, 0, 5, 1, 2, 3]));
  await once(
    torn.resume().on('error', () => torn.destroy()),
    'close',
  );
  const mute = connect(listener.port, '127.0.0.1');
  await once(mute, 'connect');
  mute.end();
  await once(mute.resume(), 'close');
  t.equal(await ask(listener.url, memberSockets(t, encryption)), 'encrypted');
});

t.test('what goes over the line is not what was said', async (t) => {
  const encryption = memberEncryption('on', KEY);
  const listener = await start(t, listenerTls(QUIET, { key: 'listen', encryption }));
  const heard: Buffer[] = [];
  const between = createServer((socket: Socket) => {
    const behind = connect(listener.port, '127.0.0.1');
    for (const one of [socket, behind]) {
      one.on('error', () => one.destroy());
      one.on('data', (chunk: Buffer) => heard.push(chunk));
    }
    socket.pipe(behind).pipe(socket);
  }).listen(0, '127.0.0.1');
  await once(between, 'listening');
  t.teardown(() => between.close());
  const { port } = between.address() as { port: number };
  t.equal(await ask(`http://127.0.0.1:${port}`, memberSockets(t, encryption)), 'encrypted');
  const line = Buffer.concat(heard).toString('latin1');
  t.ok(line.length > 300);
  for (const word of ['question', 'encrypted', 'POST', 'HTTP/1.1']) t.notOk(line.includes(word), word);
});

t.test(
  'a listener with certificates: clients by HTTPS alone, members by the cluster key or in plain',
  async (t) => {
    const files = filesOf(t);
    const app = createApp({
      log: silentLogger(),
      gate: createGate({
        open: OPEN_ROUTES.agent,
        verifier: new CallVerifier({ clusterKey: KEY, selfId: 'proxy-1', log: silentLogger() }),
      }),
    });
    app.use((ctx) => {
      ctx.body = isByClusterKey(ctx.req.socket) ? 'by key' : isEncrypted(ctx.req) ? 'encrypted' : 'plain';
    });
    const started = async (policy: Encryption): Promise<HttpListener> => {
      const encryption = memberEncryption(policy, KEY);
      const tls = listenerTls(QUIET, { files, key: 'listeners.0.tls', encryption });
      const listener = await HttpListener.start(app.callback(), '127.0.0.1:0', 'listen', { tls });
      t.teardown(() => listener.stop(0));
      return listener;
    };
    const call = async (listener: HttpListener, policy: Encryption): Promise<string> => {
      const client = new InternalClient({
        dispatcher: memberSockets(t, memberEncryption(policy, KEY)),
        clusterKey: KEY,
        memberId: 'agent-1',
        clock: new MemberClock(),
      });
      const url = `http://${listener.hostPort}`;
      const answer = await client.raw({
        url,
        to: 'proxy-1',
        method: 'GET',
        path: '/v2/',
        headersTimeoutMs: 5_000,
      });
      return `${answer.status} ${await answer.body.text()}`;
    };
    const clients = memberSockets(t, undefined);
    const trusting = createDispatcher({ ca: FAKE_TLS.cert });
    t.teardown(() => trusting.destroy());
    for (const policy of ['off', 'require'] as const) {
      const listener = await started(policy);
      t.match(listener.url, /^https:/);
      const answer = await request(`${listener.url}/v2/`, { dispatcher: trusting });
      t.same([answer.statusCode, await answer.body.text()], [200, 'encrypted']);
      await t.rejects(
        request(`${listener.url}/v2/`, { dispatcher: clients }),
        'nobody signed this certificate',
      );
      const { statuses, text } = await rawHttp(
        `http://${listener.hostPort}`,
        'GET /v2/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n',
      );
      t.same(statuses, [400]);
      t.match(text, /TLS_REQUIRED[\s\S]*https:\/\//);
    }
    t.equal(await call(await started('off'), 'off'), '200 plain');
    t.equal(await call(await started('on'), 'on'), '200 by key');
    t.equal(await call(await started('require'), 'require'), '200 by key');
    t.match(await call(await started('require'), 'off'), /^400 .*came in plain/);
  },
);

t.test('certificates that are renewed are shown to who comes next; what cannot be used is not', async (t) => {
  const files = filesOf(t);
  let nowMs = 0;
  const tls = listenerTls({ log: silentLogger(), nowMs: () => nowMs }, { files, key: 'listeners.0.tls' })!;
  const listener = await start(t, tls);
  const shown = async (): Promise<string> => {
    nowMs += 2_000;
    const socket = connectTls({ port: listener.port, host: '127.0.0.1', rejectUnauthorized: false });
    await once(socket, 'secureConnect');
    const { fingerprint256 } = socket.getPeerCertificate();
    socket.destroy();
    return fingerprint256;
  };
  const first = await shown();
  writeFileSync(files['certificate-file'], RENEWED_TLS.cert);
  t.equal(await shown(), first, 'a certificate without its key, in the middle of a renewal');
  writeFileSync(files['key-file'], RENEWED_TLS.key);
  utimesSync(files['key-file'], 1, 1);
  const second = await shown();
  t.not(second, first);
  unlinkSync(files['key-file']);
  t.equal(await shown(), second);
});

t.test('files that are no certificate and key are refused by the name of their key', async (t) => {
  const right = { 'certificate-file': FAKE_TLS.cert, 'key-file': FAKE_TLS.key };
  const check = (name: keyof typeof right, text: string | undefined): unknown => {
    const { [name]: _, ...other } = right;
    const dir = t.testdir(text === undefined ? other : { ...other, [name]: text });
    const tls = { 'certificate-file': join(dir, 'certificate-file'), 'key-file': join(dir, 'key-file') };
    try {
      checkListeners(QUIET, [{}, { tls }]);
      return undefined;
    } catch (error) {
      return error instanceof CodedError ? `${error.code} ${error.message}` : error;
    }
  };
  t.match(
    check('certificate-file', 'nothing'),
    /^CONFIG_INVALID listeners\.1\.tls\.certificate-file: .*holds no cert/,
  );
  t.match(
    check('key-file', RENEWED_TLS.key),
    /^CONFIG_INVALID listeners\.1\.tls\.key-file: .*not the key of/,
  );
  t.match(check('key-file', undefined), /^CONFIG_INVALID listeners\.1\.tls\.key-file: .*cannot be read/);
});

t.test('a client in plain that ends its side after the request gets its answer', async (t) => {
  const encryption = memberEncryption('on', KEY);
  const tls = listenerTls(QUIET, { key: 'listen', encryption });
  const answered = Promise.withResolvers<void>();
  const listener = await HttpListener.start(
    (_req, res) => res.end(Buffer.alloc(4_000_000, 'all')),
    '127.0.0.1:0',
    'listen',
    { tls },
  );
  t.teardown(() => listener.stop(0));
  const socket = connect(listener.port, '127.0.0.1');
  let text = '';
  socket.on('data', (chunk) => {
    text += String(chunk);
  });
  socket.on('error', (error) => answered.reject(error));
  socket.on('close', () => answered.resolve());
  socket.end('GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  await answered.promise;
  t.match(text, /^HTTP\/1.1 200 OK/);
  t.ok(text.length > 4_000_000, 'as without TLS beside it');
});

t.test('a certificate in place of the cluster key is refused, whoever vouches for it', async (t) => {
  const heard: string[] = [];
  const server = createHttps({ ...FAKE_TLS }, (req, res) => {
    heard.push(req.url ?? '');
    res.end('mine');
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => server.close());
  const { port } = server.address() as { port: number };
  const encryption = memberEncryption('require', KEY)!;
  // As if its authority were one of those that this process trusts.
  const trusting = { ...encryption, client: { ...encryption.client, ca: FAKE_TLS.cert } };
  for (const readsBodies of [false, true])
    await t.rejects(ask(`http://127.0.0.1:${port}`, memberSockets(t, trusting, readsBodies)), {
      message: /certificate in place of the cluster key/,
    });
  const before = process.env['NODE_TLS_REJECT_UNAUTHORIZED'];
  process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = '0';
  t.teardown(() => {
    if (before === undefined) delete process.env['NODE_TLS_REJECT_UNAUTHORIZED'];
    else process.env['NODE_TLS_REJECT_UNAUTHORIZED'] = before;
  });
  await t.rejects(ask(`http://127.0.0.1:${port}`, memberSockets(t, encryption)));
  t.same(heard, []);
});
