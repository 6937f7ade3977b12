import { connect } from 'node:net';
import { Readable } from 'node:stream';
import { digestOf } from '@sepia/base/digest';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { type Answer, ask, contentOf, pushBlob, randomContent } from '../support/client.ts';
import { startCluster } from '../support/fake-cluster.ts';
import type { FakeOrigin } from '../support/fake-origin.ts';

const MIB = 1024 * 1024;

function at(url: string, answer: Answer, digest?: string): string {
  const location = String(answer.headers.location);
  const found = new URL(location, url);
  if (digest !== undefined) found.searchParams.set('digest', digest);
  return found.href;
}

function uploadIdOf(answer: Answer): string {
  return String(answer.headers['docker-upload-uuid']);
}

/**
 * Sessions that should be gone: those that a client was told of, and any that holds bytes. An origin that is silent for a
 * while has another asked beside it, and the empty session of the later one is left to its time.
 */
function leftOf(origins: readonly FakeOrigin[], told: ReadonlySet<string>): string[] {
  return origins.flatMap(({ uploads }) =>
    [...uploads].filter(([id, chunks]) => told.has(id) || chunks.length > 0).map(([id]) => id),
  );
}

t.test('chunks of one upload may go through any proxy', async (t) => {
  const { proxies, origins } = await startCluster(t, { origins: 7, proxies: 3 });
  const told = new Set<string>();
  for (let round = 0; round < 12; round++) {
    const pick = (step: number): string => proxies[(round + step * 2) % 3]!.url;
    const content = randomContent(3 * 100_000);
    const begun = await ask(`${pick(0)}/v2/app/blobs/uploads/`, 'POST');
    t.equal(begun.status, 202);
    t.match(
      begun.headers.location,
      /^\/v2\/app\/blobs\/uploads\/origin-\d\.[0-9a-f]+$/,
      'Location is relative',
    );
    t.equal(begun.headers.range, '0-0');
    t.equal(begun.headers['content-length'], '0');
    told.add(uploadIdOf(begun));
    for (let chunk = 0; chunk < 3; chunk++) {
      const url = pick(chunk + 1);
      const [from, to] = [chunk * 100_000, (chunk + 1) * 100_000];
      const patched = await ask(at(url, begun), 'PATCH', {
        headers: { 'content-range': `${from}-${to - 1}` },
        body: content.bytes.subarray(from, to),
      });
      t.equal(patched.status, 202);
      t.equal(patched.headers.range, `0-${to - 1}`);
      t.equal(patched.headers.location, begun.headers.location);
      const status = await ask(at(pick(chunk + 2), begun));
      t.equal(status.status, 204);
      t.equal(status.headers.range, `0-${to - 1}`);
      t.equal(status.headers.location, begun.headers.location);
    }
    const url = pick(5);
    const done = await ask(at(url, begun, content.digest), 'PUT');
    t.equal(done.status, 201);
    t.equal(done.headers.location, `/v2/app/blobs/${content.digest}`);
    t.equal(done.headers['docker-content-digest'], content.digest);
    const got = await ask(`${pick(6)}/v2/app/blobs/${content.digest}`);
    t.equal(digestOf(got.bytes), content.digest);
  }
  const stagers = new Set([...told].map((id) => id.split('.')[0]!));
  t.ok(stagers.size >= 3, `sessions spread over origins: ${stagers.size}`);
  t.equal(told.size, 12);
  t.same(leftOf(origins, told), [], 'no session is left');
});

t.test('a body without length is streamed', async (t) => {
  const { proxies } = await startCluster(t);
  const { url } = proxies[0]!;
  const content = randomContent(5 * MIB + 17);
  const begun = await ask(`${url}/v2/app/blobs/uploads/`, 'POST');
  const chunks = Array.from({ length: 6 }, (_, index) =>
    content.bytes.subarray(index * MIB, (index + 1) * MIB),
  );
  const patched = await ask(at(url, begun), 'PATCH', { body: Readable.from(chunks) });
  t.equal(patched.status, 202);
  t.equal(patched.headers.range, `0-${content.bytes.length - 1}`);
  t.equal((await ask(at(url, begun, content.digest), 'PUT')).status, 201);
});

t.test('a chunked body that has ended before it is sent on stays chunked', async (t) => {
  const { proxies } = await startCluster(t);
  const { url } = proxies[0]!;
  for (let round = 0; round < 20; round++) {
    const content = randomContent(1 + round * 7_000);
    const begun = await ask(`${url}/v2/app/blobs/uploads/`, 'POST');
    const patched = await ask(at(url, begun), 'PATCH', { body: Readable.from([content.bytes]) });
    t.equal(patched.status, 202, `round ${round}`);
    t.equal((await ask(at(url, begun, content.digest), 'PUT')).status, 201, `round ${round}`);
  }
});

t.test('a chunked body without a byte is an empty one', async (t) => {
  const { proxies } = await startCluster(t);
  const { url } = proxies[0]!;
  const empty = contentOf(Buffer.alloc(0));
  const begun = await ask(`${url}/v2/app/blobs/uploads/`, 'POST');
  const raw = async (method: string, path: string): Promise<string> => {
    const socket = connect(Number(new URL(url).port), '127.0.0.1');
    socket.write(
      `${method} ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
    );
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk as Buffer);
    return Buffer.concat(chunks).toString().split('\r\n')[0]!;
  };
  t.match(await raw('PATCH', String(begun.headers.location)), '202');
  t.match(await raw('PUT', `${begun.headers.location}?digest=${empty.digest}`), '201');
  t.match(await raw('POST', `/v2/app/blobs/uploads/?digest=${empty.digest}`), '201');
});

t.test('the last chunk may come with the PUT', async (t) => {
  const { proxies } = await startCluster(t);
  const { url } = proxies[0]!;
  const content = randomContent(200_000);
  const begun = await ask(`${url}/v2/app/blobs/uploads/`, 'POST');
  await ask(at(url, begun), 'PATCH', {
    headers: { 'content-range': '0-99999' },
    body: content.bytes.subarray(0, 100_000),
  });
  const done = await ask(at(url, begun, content.digest), 'PUT', {
    headers: { 'content-range': '100000-199999' },
    body: content.bytes.subarray(100_000),
  });
  t.equal(done.status, 201);
  t.equal(digestOf((await ask(`${url}/v2/app/blobs/${content.digest}`)).bytes), content.digest);
});

t.test('one POST with digest and body is a whole push; without a body it opens a session', async (t) => {
  const { proxies } = await startCluster(t);
  const { url } = proxies[0]!;
  const content = randomContent(1000);
  const done = await ask(
    `${url}/v2/app/blobs/uploads/?digest=${encodeURIComponent(content.digest)}`,
    'POST',
    { body: content.bytes },
  );
  t.equal(done.status, 201);
  t.equal(done.headers.location, `/v2/app/blobs/${content.digest}`);
  t.equal((await ask(`${url}/v2/app/blobs/uploads/?digest=${content.digest}`, 'POST')).status, 202);
  const empty = contentOf(Buffer.alloc(0));
  t.equal((await ask(`${url}/v2/app/blobs/uploads/?digest=${empty.digest}`, 'POST')).status, 201);
  t.equal((await ask(`${url}/v2/app/blobs/${empty.digest}`)).headers['content-length'], '0');
});

t.test('a mount links, or falls back to a session', async (t) => {
  const { proxies } = await startCluster(t);
  const { url } = proxies[0]!;
  const content = randomContent(1000);
  await pushBlob(url, 'team/a', content);
  const mount = (query: string): Promise<Answer> => ask(`${url}/v2/team/b/blobs/uploads/?${query}`, 'POST');
  t.equal(
    (await ask(`${url}/v2/team/b/blobs/${content.digest}`, 'HEAD')).status,
    404,
    'a digest learned elsewhere opens nothing',
  );
  t.equal((await mount(`mount=${content.digest}`)).status, 202, 'without from');
  t.equal((await mount(`mount=${content.digest}&from=team%2Fnobody`)).status, 202, 'not there');
  t.equal((await mount(`mount=${content.digest}&from=docker.io%2Fa%2Fb`)).status, 202, 'of another upstream');
  t.equal((await mount(`mount=${content.digest}&from=Team%2FA`)).status, 202, 'of no name that is one here');
  const mounted = await mount(`from=team%2Fa&mount=${encodeURIComponent(content.digest)}`);
  t.equal(mounted.status, 201);
  t.equal(mounted.headers.location, `/v2/team/b/blobs/${content.digest}`);
  t.equal((await ask(`${url}/v2/team/b/blobs/${content.digest}`, 'HEAD')).status, 200);
  t.equal((await mount('mount=sha256:bad&from=team%2Fa')).code, 'DIGEST_INVALID');
  for (const other of [
    `blake3:${'a'.repeat(64)}`,
    `sha384:${'a'.repeat(96)}`,
    'md5:d41d8cd98f00b204e9800998ecf8427e',
  ])
    t.equal((await mount(`mount=${other}&from=team%2Fa`)).status, 202, other);
});

t.test('a chunk out of order is 416 and says where the upload stands', async (t) => {
  const { proxies } = await startCluster(t);
  const { url } = proxies[0]!;
  const begun = await ask(`${url}/v2/app/blobs/uploads/`, 'POST');
  await ask(at(url, begun), 'PATCH', { headers: { 'content-range': '0-9' }, body: '0123456789' });
  const wrong = await ask(at(url, begun), 'PATCH', { headers: { 'content-range': '20-24' }, body: 'abcde' });
  t.equal(wrong.status, 416);
  t.equal(wrong.headers.range, '0-9');
  t.equal(wrong.headers.location, begun.headers.location);
  const again = await ask(at(url, begun), 'PATCH', {
    headers: { 'content-range': '0-9' },
    body: '0123456789',
  });
  t.equal(again.status, 416);
});

t.test('bad upload requests get coded errors', async (t) => {
  const { proxies } = await startCluster(t);
  const { url } = proxies[0]!;
  const begun = await ask(`${url}/v2/app/blobs/uploads/`, 'POST');
  const content = randomContent(10);
  const cases: [string, string, string, Record<string, string>, Buffer | undefined, number, string][] = [
    [
      'no such session',
      'PATCH',
      `/v2/app/blobs/uploads/origin-1.${'0'.repeat(24)}`,
      {},
      content.bytes,
      404,
      'BLOB_UPLOAD_UNKNOWN',
    ],
    [
      'no such origin',
      'PATCH',
      `/v2/app/blobs/uploads/origin-99.${'0'.repeat(24)}`,
      {},
      content.bytes,
      404,
      'BLOB_UPLOAD_UNKNOWN',
    ],
    [
      'a proxy is no stager',
      'GET',
      `/v2/app/blobs/uploads/proxy-1.${'0'.repeat(24)}`,
      {},
      undefined,
      404,
      'BLOB_UPLOAD_UNKNOWN',
    ],
    ['traversal', 'GET', '/v2/app/blobs/uploads/..%2f..%2fcluster', {}, undefined, 404, 'UNSUPPORTED'],
    ['dots', 'GET', '/v2/app/blobs/uploads/origin-1...', {}, undefined, 404, 'BLOB_UPLOAD_UNKNOWN'],
    ['PUT without digest', 'PUT', String(begun.headers.location), {}, undefined, 400, 'DIGEST_INVALID'],
    [
      'PUT with upper-case digest',
      'PUT',
      `${begun.headers.location}?digest=${content.digest.toUpperCase()}`,
      {},
      undefined,
      400,
      'DIGEST_INVALID',
    ],
    [
      'PUT with a wrong digest',
      'PUT',
      `${begun.headers.location}?digest=${randomContent(3).digest}`,
      {},
      content.bytes,
      400,
      'DIGEST_INVALID',
    ],
    [
      'bad Content-Range',
      'PATCH',
      String(begun.headers.location),
      { 'content-range': 'x' },
      content.bytes,
      400,
      'BLOB_UPLOAD_INVALID',
    ],
    [
      'Content-Range and length differ',
      'PATCH',
      String(begun.headers.location),
      { 'content-range': '0-99' },
      content.bytes,
      400,
      'SIZE_INVALID',
    ],
    ['read-only upstream', 'POST', '/v2/docker.io/a/b/blobs/uploads/', {}, undefined, 403, 'DENIED'],
    ['bad name', 'POST', '/v2/A/blobs/uploads/', {}, undefined, 400, 'NAME_INVALID'],
  ];
  for (const [what, method, path, headers, body, status, code] of cases) {
    const answer = await ask(url + path, method, body === undefined ? { headers } : { headers, body });
    t.equal(answer.status, status, what);
    t.equal(answer.code, code, what);
  }
});

t.test('a cancelled upload is gone', async (t) => {
  const { proxies, origins } = await startCluster(t);
  const { url } = proxies[0]!;
  const begun = await ask(`${url}/v2/app/blobs/uploads/`, 'POST');
  t.equal((await ask(at(url, begun), 'DELETE')).status, 204);
  t.equal((await ask(at(url, begun))).code, 'BLOB_UPLOAD_UNKNOWN');
  t.same(leftOf(origins, new Set([uploadIdOf(begun)])), []);
});

t.test('a body that is cut or shorter than it says leaves the session usable', async (t) => {
  const { proxies, origins } = await startCluster(t);
  const { url } = proxies[0]!;
  const begun = await ask(`${url}/v2/app/blobs/uploads/`, 'POST');
  const socket = connect(Number(new URL(url).port), '127.0.0.1');
  socket.on('error', () => undefined);
  socket.write(`PATCH ${begun.headers.location} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhello`);
  const uploadId = String(begun.headers['docker-upload-uuid']);
  const stager = origins.find((origin) => uploadId.startsWith(`${origin.id}.`))!;
  await until(() => (stager.uploads.get(uploadId)?.length ?? 0) > 0, 'the first bytes are at the stager');
  socket.destroy();
  await until(
    async () => (await ask(at(url, begun))).headers.range === '0-4',
    'the session stands at 5 bytes',
  );
  t.equal(
    (await ask(at(url, begun), 'PATCH', { headers: { 'content-range': '5-9' }, body: 'world' })).status,
    202,
  );
  t.equal((await ask(at(url, begun, digestOf(Buffer.from('helloworld'))), 'PUT')).status, 201);
  t.equal(
    (await ask(`${proxies[0]!.adminUrl}/readyz`)).status,
    200,
    'a client that goes makes no origin suspect',
  );
});

t.test('a stager that hangs is told as a lost upload within seconds; new pushes go on', async (t) => {
  const { proxies, origin } = await startCluster(t);
  const { url } = proxies[0]!;
  const begun = await ask(`${url}/v2/app/blobs/uploads/`, 'POST');
  const stager = origin(String(begun.headers['docker-upload-uuid']).split('.')[0]!);
  await ask(at(url, begun), 'PATCH', { body: 'first' });
  stager.freeze();
  const startedMs = performance.now();
  const lost = ask(at(url, begun), 'PATCH', { body: randomContent(20 * MIB).bytes });
  const other = await pushBlob(url, 'app', randomContent(1000));
  t.equal(other.status, 201, 'a push begun after it');
  t.ok(performance.now() - startedMs < 10_000, 'at once');
  const answer = await lost;
  t.equal(answer.code, 'BLOB_UPLOAD_UNKNOWN');
  t.ok(performance.now() - startedMs < 40_000, `after ${Math.round(performance.now() - startedMs)} ms`);
});

t.test('more uploads at once than the limit are 429', async (t) => {
  const { proxies } = await startCluster(t, { config: { limits: { 'open-uploads': 1, drain: '200ms' } } });
  const { url } = proxies[0]!;
  const begun = await ask(`${url}/v2/app/blobs/uploads/`, 'POST');
  const slow = new Readable({ read: () => undefined });
  slow.push('begin');
  const first = ask(at(url, begun), 'PATCH', { body: slow });
  await until(async () => {
    const metrics = await ask(`${proxies[0]!.adminUrl}/metrics`);
    return /sepia_proxy_open_uploads\{[^}]*\} 1/.test(metrics.text);
  }, 'the first upload runs');
  const refused = await ask(at(url, begun), 'PATCH', { body: 'more' });
  t.equal(refused.status, 429);
  t.ok(Number(refused.headers['retry-after']) >= 1);
  slow.push(null);
  t.equal((await first).status, 202);
});

t.test('the places of one address are its own: those of others stay free', async (t) => {
  const limits = { 'open-uploads': 3, 'uploads-per-address': 2, drain: '200ms' };
  const listeners = [{ listen: '127.0.0.1:0', 'trusted-proxies': ['127.0.0.1'] }];
  const { proxies } = await startCluster(t, { config: { limits, listeners } });
  const { url, adminUrl } = proxies[0]!;
  const from = (address: string): { headers: Record<string, string> } => ({
    headers: { 'x-forwarded-for': address },
  });
  const bodies = [1, 2].map(() => new Readable({ read: () => undefined }));
  const slow = [];
  for (const body of bodies) {
    body.push('begin');
    const begun = await ask(`${url}/v2/app/blobs/uploads/`, 'POST', from('10.0.0.1'));
    slow.push(ask(at(url, begun), 'PATCH', { ...from('10.0.0.1'), body }));
  }
  await until(
    async () => /sepia_proxy_open_uploads\{[^}]*\} 2/.test((await ask(`${adminUrl}/metrics`)).text),
    'both run',
  );
  const { bytes, digest } = randomContent(1_000);
  const whole = `${url}/v2/app/blobs/uploads/?digest=${digest}`;
  const own = await ask(whole, 'POST', { ...from('10.0.0.1'), body: bytes });
  t.equal(own.status, 429);
  t.match(own.text, /of this address/);
  const manifest = await ask(`${url}/v2/app/manifests/v1`, 'PUT', { ...from('10.0.0.1'), body: '{}' });
  t.equal(manifest.status, 429, 'a manifest has a body as well');
  const other = await ask(whole, 'POST', { ...from('10.0.0.2'), body: bytes });
  t.equal(other.status, 201);
  for (const body of bodies) body.push(null);
  for (const one of slow) t.equal((await one).status, 202);
});

t.test('a client that sends nothing is cut', async (t) => {
  const { proxies } = await startCluster(t, {
    config: { limits: { 'upload-idle': '500ms', drain: '200ms' } },
  });
  const { url } = proxies[0]!;
  const begun = await ask(`${url}/v2/app/blobs/uploads/`, 'POST');
  const silent = new Readable({ read: () => undefined });
  silent.push('begin');
  const answer = await ask(at(url, begun), 'PATCH', { body: silent });
  t.equal(answer.status, 503);
  t.match(answer.text, /no progress/);
});
