import { Readable } from 'node:stream';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { type Answer, ask, randomContent } from '../support/client.ts';
import { startCluster } from '../support/fake-cluster.ts';

const MIB = 1024 * 1024;

interface Way {
  readonly method: 'PATCH' | 'PUT';
  readonly length: 'chunked' | 'small' | 'large';
}

/** The first bytes of a body of `bytes`, and never its end. */
function endless(bytes: number): Readable {
  const body = new Readable({ read: () => undefined });
  body.push(randomContent(bytes).bytes);
  return body;
}

function headersOf({ length }: Way): Record<string, string> {
  if (length === 'chunked') return {};
  return { 'content-length': String(length === 'small' ? 100_000 : 2 * MIB) };
}

const WAYS: readonly Way[] = [
  { method: 'PATCH', length: 'chunked' },
  { method: 'PATCH', length: 'large' },
  { method: 'PUT', length: 'chunked' },
  { method: 'PUT', length: 'small' },
  { method: 'PUT', length: 'large' },
];

for (const way of WAYS) {
  const { method, length } = way;

  t.test(`an origin that dies in the middle of a ${method} (${length}) ends the session`, async (t) => {
    const { proxies, origins } = await startCluster(t);
    const { url, adminUrl } = proxies[0]!;
    const begun = await ask(`${url}/v2/app/blobs/uploads/`, 'POST');
    const uploadId = String(begun.headers['docker-upload-uuid']);
    const query = method === 'PUT' ? `?digest=${randomContent(1).digest}` : '';
    const prefix = method === 'PUT' ? 'PUT /v1/' : 'PATCH /v1/uploads/';
    const taker = () => origins.find(({ calls }) => calls.some((call) => call.startsWith(prefix)));
    const sent: Promise<Answer> = ask(`${url}/v2/app/blobs/uploads/${uploadId}${query}`, method, {
      headers: headersOf(way),
      body: endless(50_000),
    });
    await until(() => taker() !== undefined, 'the body is on its way');
    await taker()!.stop();
    const answer = await sent;
    t.same([answer.status, answer.code], [404, 'BLOB_UPLOAD_UNKNOWN'], 'the client begins again');
    t.match((await ask(`${adminUrl}/metrics`)).text, /sepia_bugs_total\{[^}]*\} 0/);
  });
}

t.test('a request with a body for an origin that is gone ends the session', async (t) => {
  const { proxies, origin } = await startCluster(t);
  const { url } = proxies[0]!;
  for (const method of ['PATCH', 'PUT'] as const) {
    const begun = await ask(`${url}/v2/app/blobs/uploads/`, 'POST');
    const session = new URL(String(begun.headers.location), url).href;
    await origin(String(begun.headers['docker-upload-uuid']).split('.')[0]!).stop();
    const { bytes, digest } = randomContent(100_000);
    const query = method === 'PUT' ? `?digest=${digest}` : '';
    const answer = await ask(`${session}${query}`, method, { body: bytes });
    t.same([answer.status, answer.code], [404, 'BLOB_UPLOAD_UNKNOWN'], method);
  }
});

t.test('a client that cuts its body is told as before, and no origin counts as gone', async (t) => {
  const { proxies } = await startCluster(t);
  const { url, adminUrl } = proxies[0]!;
  const begun = await ask(`${url}/v2/app/blobs/uploads/`, 'POST');
  const session = new URL(String(begun.headers.location), url).href;
  const body = endless(50_000);
  const sent = ask(session, 'PATCH', { body });
  await until(async () => (await ask(session)).headers.range === '0-49999', 'the first bytes are there');
  body.destroy(new Error('the client goes'));
  await t.rejects(sent);
  t.equal((await ask(session)).status, 204);
  t.equal((await ask(`${adminUrl}/readyz`)).status, 200);
});
