import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import t from 'tap';
import { request } from 'undici';
import { createApp, toCoded } from '../src/app.ts';
import { createGate } from '../src/gate.ts';
import { HttpListener } from '../src/listener.ts';

t.test('a full disk is told as such, whoever found it', async (t) => {
  const system = Object.assign(new Error('write'), { code: 'ENOSPC' });
  const database = new Error('IO error: /d/v1/db/000005.log: No space left on device');
  const quota = Object.assign(new Error('write'), { code: 'EDQUOT' });
  const quotaOfDatabase = new Error('IO error: /d/v1/db/000005.log: Disk quota exceeded');
  for (const error of [system, database, quota, quotaOfDatabase])
    t.match(toCoded(error), { code: 'DISK_FULL', cause: error });
});

t.test('who may open no file more is busy, and says what to raise', async (t) => {
  for (const code of ['EMFILE', 'ENFILE']) {
    const error = Object.assign(new Error(`${code}: open`), { code });
    const busy = { code: 'MEMBER_BUSY', cause: error, facts: { status: 503 } };
    t.match(toCoded(error), { ...busy, message: /raise its limit of open files/ }, code);
  }
});

t.test('what has a code keeps it, the rest is internal', async (t) => {
  const coded = new CodedError('NO_PEERS');
  t.equal(toCoded(coded), coded);
  t.match(toCoded(new URIError('x')), { code: 'REQUEST_INVALID' });
  t.match(toCoded(new Error('x')), { code: 'INTERNAL' });
  const late = new DOMException('The operation was aborted due to timeout', 'TimeoutError');
  t.match(toCoded(late), { code: 'TIMEOUT', cause: late, facts: { status: 503 } });
});

t.test('a connection that another broke is no internal error', async (t) => {
  for (const code of ['ECONNRESET', 'EPIPE', 'ECONNREFUSED', 'UND_ERR_SOCKET', 'UND_ERR_BODY_TIMEOUT']) {
    const error = Object.assign(new Error(`read ${code}`), { code });
    t.match(toCoded(error), { code: 'PEER_HTTP', cause: error, facts: { status: 503 } }, code);
  }
});

t.test('an error answers HEAD with the headers that GET would get', async (t) => {
  const app = createApp({ log: silentLogger(), gate: createGate({ open: { '/*': 'anyone' } }) });
  app.use(() => {
    throw new CodedError('BLOB_UNKNOWN', { detail: { digest: 'sha256:ä' } });
  });
  const listener = await HttpListener.start(app.callback(), '127.0.0.1:0', 'listen');
  t.teardown(() => listener.stop(0));
  const got = await request(listener.url);
  const bytes = Buffer.from(await got.body.arrayBuffer());
  const head = await request(listener.url, { method: 'HEAD' });
  t.equal((await head.body.arrayBuffer()).byteLength, 0);
  t.equal(head.statusCode, 404);
  t.equal(got.headers['content-length'], String(bytes.length));
  for (const name of ['content-length', 'content-type', 'sepia-error'])
    t.equal(head.headers[name], got.headers[name], name);
});

t.test('addresses of members, places of blobs and keys of records are for members and the log', async (t) => {
  const said: { facts: object; message: string }[] = [];
  const log = Object.assign(silentLogger(), {
    info: (facts: object, message: string) => void said.push({ facts, message }),
  });
  const app = createApp({ log, gate: createGate({ open: { '/*': 'anyone' } }) });
  const url = 'http://10.9.8.7:5000';
  const errors: Record<string, CodedError> = {
    '/silent': new CodedError('PEER_HTTP', { message: `${url} does not answer`, detail: { url, left: 1 } }),
    '/cut': new CodedError('PEER_HTTP', { message: `answer of ${url} was cut` }),
    '/unknown': new CodedError('BLOB_UNKNOWN', { detail: { url, digest: 'd' } }),
    '/upstream': new CodedError('BACKEND_DOWN', {
      message: 'https://up.example is down',
      detail: { url, host: 'h' },
    }),
    '/folder': new CodedError('BACKEND_DOWN', {
      message: 'backend folder /mnt/blobs has no file; is it mounted?',
      detail: { place: '/mnt/blobs', system: 'ENOENT', digest: 'd' },
    }),
    '/record': new CodedError('QUORUM_LOST', { detail: { key: 'tag\0up\0app', answered: 1 } }),
    '/bad': new CodedError('REQUEST_INVALID', { detail: { key: 'size' } }),
  };
  app.use((ctx) => {
    if (ctx.get('x-member') !== '') ctx.state['caller'] = 'agent-1';
    throw errors[ctx.path]!;
  });
  const listener = await HttpListener.start(app.callback(), '127.0.0.1:0', 'listen');
  t.teardown(() => listener.stop(0));
  const ask = async (path: string, headers = {}): Promise<unknown> =>
    ((await (await request(`${listener.url}${path}`, { headers })).body.json()) as { errors: unknown[] })
      .errors[0];
  t.same(await ask('/silent'), {
    code: 'UNAVAILABLE',
    message: 'a member of the cluster does not answer',
    detail: { left: 1 },
  });
  t.match(await ask('/cut'), { message: 'answer of a member of the cluster was cut' });
  t.match(await ask('/unknown'), { code: 'BLOB_UNKNOWN', detail: { digest: 'd', url: undefined } });
  t.match(await ask('/upstream'), { message: 'https://up.example is down', detail: { host: 'h' } });
  t.same(await ask('/folder'), {
    code: 'UNAVAILABLE',
    message: 'backend folder the blob store has no file; is it mounted?',
    detail: { digest: 'd' },
  });
  t.same(((await ask('/record')) as { detail: unknown }).detail, { answered: 1 });
  t.match(await ask('/bad'), { detail: { key: 'size' } }, 'what the client sent is named');
  t.match(said[0], { facts: { code: 'PEER_HTTP', member: url }, message: `${url} does not answer` });
  t.match(await ask('/silent', { 'x-member': '1' }), { detail: { url }, message: `${url} does not answer` });
});
