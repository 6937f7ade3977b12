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
  for (const error of [system, database]) t.match(toCoded(error), { code: 'DISK_FULL', cause: error });
});

t.test('what has a code keeps it, the rest is internal', async (t) => {
  const coded = new CodedError('NO_PEERS');
  t.equal(toCoded(coded), coded);
  t.match(toCoded(new URIError('x')), { code: 'REQUEST_INVALID' });
  t.match(toCoded(new Error('x')), { code: 'INTERNAL' });
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
