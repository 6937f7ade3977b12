import { once } from 'node:events';
import { connect, Server } from 'node:net';
import { PassThrough } from 'node:stream';
import { CodedError } from '@sepia/base/errors';
import { ignoreFailure } from '@sepia/base/failure';
import { Metrics } from '@sepia/base/metrics';
import { rawHttp } from '@sepia/test-support/clients/raw-http';
import { noIpv6 } from '@sepia/test-support/ipv6';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { request } from 'undici';
import { goneSignal } from '../src/client-gone.ts';
import { HttpListener } from '../src/listener.ts';

const LISTEN = Server.prototype.listen as (...args: unknown[]) => Server;
/** In which a request is sent whole on a busy machine too; the test waits for it once. */
const DEADLINE_MS = 1_000;

t.test('a taken port says so, and names the key', async (t) => {
  const first = await HttpListener.start(() => undefined, '127.0.0.1:0', 'listen');
  t.teardown(() => first.stop(0));
  const error = await HttpListener.start(() => undefined, first.hostPort, 'admin-listen').catch(
    (thrown: unknown) => thrown,
  );
  t.ok(error instanceof CodedError);
  t.match(error, {
    code: 'START_FAILED',
    message: `admin-listen: ${first.hostPort} is taken by another process`,
    detail: { key: 'admin-listen', address: first.hostPort },
  });
});

t.test('an address that is not ours, or none, says so', async (t) => {
  await t.rejects(
    HttpListener.start(() => undefined, '203.0.113.7:0', 'listen'),
    { code: 'START_FAILED', message: /listen: 203\.0\.113\.7:0 is not an address of this machine/ },
  );
  await t.rejects(
    HttpListener.start(() => undefined, 'nonsense', 'listen'),
    { code: 'CONFIG_INVALID', message: /listen: "nonsense" is not host:port/ },
  );
});

t.test('IPv6 addresses are written in brackets', { skip: noIpv6() }, async (t) => {
  const listener = await HttpListener.start((_req, res) => res.end('ok'), '[::1]:0', 'listen');
  t.teardown(() => listener.stop(0));
  t.equal(listener.url, `http://[::1]:${listener.port}`);
  t.equal(await (await request(listener.url)).body.text(), 'ok');
});

t.test(
  'a client that waits for its answer is not cut, however long that takes; who sends nothing is',
  async (t) => {
    const idleMs = DEADLINE_MS;
    const listener = await HttpListener.start(
      (req, res) => {
        if (req.url === '/slow') setTimeout(() => res.end('late'), idleMs * 3);
        else req.resume().on('end', () => res.end('read'));
      },
      '127.0.0.1:0',
      'listen',
      { idleMs },
    );
    t.teardown(() => listener.stop(0));
    const answer = await request(`${listener.url}/slow`);
    t.equal(answer.statusCode, 200);
    t.equal(await answer.body.text(), 'late');
    const body = new PassThrough();
    body.write('half');
    await t.rejects(request(`${listener.url}/body`, { method: 'POST', body }), 'a body that stops');
    const idle = connect(listener.port, '127.0.0.1');
    await once(idle, 'close');
    t.pass('a connection without request');
  },
);

t.test('a second request on one connection has the deadlines of the first', async (t) => {
  const listener = await HttpListener.start(
    (req, res) => req.resume().on('end', () => res.end('read')),
    '127.0.0.1:0',
    'listen',
    { idleMs: DEADLINE_MS },
  );
  t.teardown(() => listener.stop(0));
  const socket = connect(listener.port, '127.0.0.1');
  const head = 'POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n';
  socket.write(`${head}full`);
  t.match(String((await once(socket, 'data'))[0]), 'HTTP/1.1 200 OK');
  socket.write(`${head}half`.slice(0, -2));
  // Where what was sent is not read any more the cut is a reset.
  await new Promise<void>((settle) =>
    socket
      .resume()
      .on('error', ignoreFailure)
      .once('close', () => settle()),
  );
  t.pass('a body that stops is cut');
});

t.test('what reaches no route is refused in the words of routes', async (t) => {
  const listener = await HttpListener.start((_req, res) => res.end('reached'), '127.0.0.1:0', 'listen');
  t.teardown(() => listener.stop(0));
  const asks = {
    400: 'GARBAGE\r\n\r\n',
    417: 'GET / HTTP/1.1\r\nHost: x\r\nExpect: wonders\r\nConnection: close\r\n\r\n',
    431: `GET / HTTP/1.1\r\nHost: x\r\nX-Long: ${'x'.repeat(40_000)}\r\n\r\n`,
  };
  for (const [status, ask] of Object.entries(asks)) {
    const { statuses, text } = await rawHttp(listener.url, ask);
    t.same(statuses, [Number(status)]);
    t.match(text, /\r\nSepia-Error: REQUEST_INVALID\r\n/);
    const body = text.slice(text.indexOf('\r\n\r\n') + 4);
    t.match(JSON.parse(body), { errors: [{ code: 'UNSUPPORTED', message: /./ }] });
  }
});

t.test('garbage behind a request never gets into the body that is being sent', async (t) => {
  const listener = await HttpListener.start(
    (_req, res) => void res.writeHead(200, { 'Content-Length': 100 }).write('begun'),
    '127.0.0.1:0',
    'listen',
  );
  t.teardown(() => listener.stop(0));
  const { text } = await rawHttp(listener.url, 'GET / HTTP/1.1\r\nHost: x\r\n\r\nGARBAGE\r\n\r\n');
  t.notMatch(text, 'errors');
});

t.test('stop lets a request finish, takes no new one, and may be called twice', async (t) => {
  let finish = (): void => undefined;
  const arrived = Promise.withResolvers<void>();
  const listener = await HttpListener.start(
    (_req, res) => {
      finish = () => res.end('done');
      arrived.resolve();
    },
    '127.0.0.1:0',
    'listen',
  );
  const answer = request(listener.url);
  await arrived.promise;
  const { url } = listener;
  const stopped = Promise.all([listener.stop(10_000), listener.stop(10_000)]);
  await t.rejects(request(url));
  finish();
  t.equal(await (await answer).body.text(), 'done');
  await stopped;
});

t.test('stop cuts what is not done within the grace', async (t) => {
  const arrived = Promise.withResolvers<void>();
  const listener = await HttpListener.start(() => arrived.resolve(), '127.0.0.1:0', 'listen');
  const answer = request(listener.url).catch((error: unknown) => error);
  await arrived.promise;
  const second = [listener.stop(20), listener.stop(20)];
  await Promise.all(second);
  t.ok((await answer) instanceof Error);
});

t.test(
  'a connection for which there is no descriptor is told so and closed; the next is served',
  async (t) => {
    let left = 0;
    const room = { takes: () => left-- > 0 };
    const seen: string[] = [];
    const listener = await HttpListener.start(
      (req, res) => {
        seen.push(req.url ?? '');
        res.end('ok');
      },
      '127.0.0.1:0',
      'listen',
      { room },
    );
    t.teardown(() => listener.stop(0));
    const { text, closed } = await rawHttp(listener.url, 'GET /refused HTTP/1.1\r\nHost: x\r\n\r\n');
    t.ok(closed);
    t.match(text, /^HTTP\/1\.1 503 /);
    t.match(text, /\r\nSepia-Error: MEMBER_BUSY\r\n/);
    t.match(text, /\r\nRetry-After: 1\r\n/);
    t.match(text, /\r\nConnection: close\r\n/);
    t.match(text, /"code":"UNAVAILABLE".*raise its limit of open files/);
    left = 1;
    t.equal(await (await request(`${listener.url}/served`)).body.text(), 'ok');
    t.same(seen, ['/served']);
  },
);

t.test('who sends nothing is not kept waiting, and no more than eight are', async (t) => {
  const listener = await HttpListener.start(() => undefined, '127.0.0.1:0', 'listen', {
    room: { takes: () => false },
  });
  t.teardown(() => listener.stop(0));
  const many = Array.from({ length: 12 }, () => connect(listener.port, '127.0.0.1'));
  const ended: number[] = [];
  await Promise.all(
    many.map(async (socket, index) => {
      socket.on('error', () => undefined).resume();
      await once(socket, 'close');
      ended.push(index);
    }),
  );
  t.equal(ended.length, 12, 'none stays open');
});

t.test('who sends requests one behind the other and leaves has left all of them', async (t) => {
  const signals: AbortSignal[] = [];
  const listener = await HttpListener.start(
    (_req, res) => {
      signals.push(goneSignal({ res }));
    },
    '127.0.0.1:0',
    'listen',
  );
  t.teardown(() => listener.stop(0));
  const socket = connect(listener.port, '127.0.0.1');
  socket.write('GET / HTTP/1.1\r\nHost: h\r\n\r\n'.repeat(3));
  await until(() => signals.length === 3, 'all are being answered');
  socket.destroy();
  await until(() => signals.every((one) => one.aborted), 'nobody works for it any more');
});

t.test('who sends many requests before it has an answer is cut; others are served', async (t) => {
  let begun = 0;
  const listener = await HttpListener.start(
    (req, res) => {
      if (req.url === '/other') return void res.end('ok');
      begun += 1;
    },
    '127.0.0.1:0',
    'listen',
  );
  t.teardown(() => listener.stop(0));
  const socket = connect(listener.port, '127.0.0.1');
  socket.on('error', ignoreFailure);
  socket.write('GET / HTTP/1.1\r\nHost: h\r\n\r\n'.repeat(500));
  await once(socket, 'close');
  t.equal(begun, 64);
  t.equal(await (await request(`${listener.url}/other`)).body.text(), 'ok');
});

t.test('connections that the system does not hand over end nothing', async (t) => {
  const servers: Server[] = [];
  const listening = t.capture(Server.prototype, 'listen', function (this: Server, ...args: unknown[]) {
    servers.push(this);
    return LISTEN.apply(this, args);
  });
  const listener = await HttpListener.start((_req, res) => res.end('ok'), '127.0.0.1:0', 'listen');
  listening.restore();
  t.teardown(() => listener.stop(0));
  // As Node says it where the limit of open files is reached, or a firewall refuses.
  for (const code of ['EMFILE', 'ENFILE', 'EPERM'])
    servers[0]!.emit('error', Object.assign(new Error(`accept ${code}`), { code, syscall: 'accept' }));
  const text = await new Metrics('proxy', 'p').registry.metrics();
  t.match(text, /^sepia_connections_lost_total\{why="system".*\} 3$/m);
  t.equal(await (await request(listener.url)).body.text(), 'ok');
});
