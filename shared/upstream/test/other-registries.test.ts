import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { digestOf } from '@sepia/base/digest';
import { OCI_ARTIFACT, OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import t, { type Test } from 'tap';
import { clientOf, failure, readAll, reference, REPOSITORY as repository, soon } from './client-fixture.ts';

type Serve = (req: IncomingMessage, res: ServerResponse, url: URL) => unknown;

const MANIFEST = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, layers: [] }));
const DIGEST = digestOf(MANIFEST);
const V1 = { repository, reference: reference('v1') };
const BLOB = Buffer.from('hello, blob');
const digest = digestOf(BLOB);

/** A registry that answers as `serve` does. */
async function registry(t: Test, serve: Serve): Promise<string> {
  const server = createServer((req, res) => serve(req, res, new URL(req.url!, 'http://asked.invalid')));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

t.test('referrers: whatever refuses the API, and other JSON than a list, leaves the tag', async (t) => {
  const list = { schemaVersion: 2, manifests: [{ mediaType: OCI_MANIFEST, digest: DIGEST, size: 3 }] };
  const found = async (status: number, body: string): Promise<number> => {
    const url = await registry(t, (_req, res, { pathname }) => {
      const isTag = pathname.includes('/manifests/sha256-');
      res.writeHead(isTag ? 200 : status, { 'content-type': isTag ? OCI_INDEX : 'application/json' });
      res.end(isTag ? JSON.stringify(list) : body);
    });
    return (await clientOf(t, url).listReferrers({ repository, digest: DIGEST, limit: 9 }, soon())).length;
  };
  for (const status of [400, 403, 404, 405, 406, 410, 415, 422, 501])
    t.equal(await found(status, '{}'), 1, String(status));
  for (const body of ['{}', '{"errors":[{"code":"NOT_FOUND"}]}', '<html></html>', ''])
    t.equal(await found(200, body), 1, body);
  t.equal(await found(200, '{"schemaVersion":2,"manifests":null}'), 0, 'an empty list');
  await failure(found(401, '{}'), 'UPSTREAM_DENIED');
  await failure(found(500, '{}'), 'BACKEND_DOWN');
});

t.test('referrers: a tag that is read as the digest is no list, but the subject itself', async (t) => {
  const index = { schemaVersion: 2, manifests: [{ mediaType: OCI_MANIFEST, digest: DIGEST, size: 3 }] };
  const subject = Buffer.from(JSON.stringify(index));
  const url = await registry(t, (_req, res, { pathname }) => {
    if (pathname.includes('/referrers/')) return res.writeHead(404).end();
    return res.writeHead(200, { 'content-type': OCI_INDEX }).end(subject);
  });
  const query = { repository, digest: digestOf(subject), limit: 9 };
  t.same(await clientOf(t, url).listReferrers(query, soon()), []);
});

t.test('referrers: a further page that is refused, or is none, is no end of the list', async (t) => {
  const list = { schemaVersion: 2, manifests: [{ mediaType: OCI_MANIFEST, digest: DIGEST, size: 3 }] };
  for (const [status, body, code] of [
    [403, '', 'UPSTREAM_DENIED'],
    [404, '{}', 'UPSTREAM_LIES'],
    [406, '', 'UPSTREAM_LIES'],
    [200, '<html></html>', 'UPSTREAM_LIES'],
  ] as const) {
    const url = await registry(t, (_req, res, { search }) => {
      if (search !== '') return res.writeHead(status).end(body);
      return res.writeHead(200, { link: '<?page=2>; rel="next"' }).end(JSON.stringify(list));
    });
    await failure(clientOf(t, url).listReferrers({ repository, digest: DIGEST, limit: 9 }, soon()), code);
  }
});

t.test('a manifest whose connection ends in its middle is asked for once more', async (t) => {
  let cuts = 1;
  const url = await registry(t, (_req, res) => {
    res.writeHead(200, { 'content-type': OCI_MANIFEST, 'content-length': MANIFEST.length });
    if (cuts-- > 0) return void res.write(MANIFEST.subarray(0, 9), () => res.destroy());
    return res.end(MANIFEST);
  });
  t.equal((await clientOf(t, url).getManifest(V1, soon())).digest, DIGEST);
  cuts = 2;
  await failure(clientOf(t, url).getManifest(V1, soon()), 'BACKEND_DOWN');
});

t.test('the next page of tags is found in whatever form a link may have', async (t) => {
  const page = '/v2/x/tags/list?last=a&n=1';
  for (const link of [
    [`<${page}>; rel="first"`, `<${page}>; rel="next"`],
    `<?last=a&n=1>;rel=next`,
    `<${page}>; rel="prev next"`,
    `<${page}>; rel = "next"`,
    `<${page}>; rel='next'`,
    `<${page}>; title="a, b; rel=prev"; Rel="Next"`,
  ]) {
    const url = await registry(t, (_req, res) => {
      res.writeHead(200, { link }).end('{"tags":["a"]}');
    });
    const { next } = await clientOf(t, url).listTags({ repository, n: 1 }, soon());
    t.equal(next, 'last=a&n=1', String(link));
  }
});

t.test('a manifest of any type comes from a registry that knows only of what is accepted', async (t) => {
  for (const type of [OCI_ARTIFACT, 'application/vnd.example.something+json']) {
    const bytes = Buffer.from(JSON.stringify({ mediaType: type, blobs: [] }));
    const url = await registry(t, ({ headers: { accept = '' }, method }, res) => {
      if (!accept.includes('*/*')) return res.writeHead(404).end();
      res.writeHead(200, { 'content-type': type, 'docker-content-digest': digestOf(bytes) });
      return res.end(method === 'HEAD' ? undefined : bytes);
    });
    t.equal((await clientOf(t, url).getManifest(V1, soon())).mediaType, type);
    t.equal((await clientOf(t, url).headManifest(V1, soon())).mediaType, type);
  }
});

t.test('a manifest whose HEAD is refused, or unknown, is asked for by GET', async (t) => {
  for (const status of [403, 404, 405, 406, 415, 500, 501]) {
    const url = await registry(t, ({ method }, res) => {
      if (method === 'HEAD') res.writeHead(status).end();
      else res.writeHead(200, { 'content-type': OCI_MANIFEST }).end(MANIFEST);
    });
    t.equal((await clientOf(t, url).headManifest(V1, soon())).digest, DIGEST, String(status));
  }
  const gone = await registry(t, (_req, res) => res.writeHead(404).end());
  await failure(clientOf(t, gone).headManifest(V1, soon()), 'MANIFEST_UNKNOWN');
});

t.test('a 206 that nobody asked for is the blob where it is all of it', async (t) => {
  const all = `bytes 0-${BLOB.length - 1}/${BLOB.length}`;
  for (const headers of [{ 'content-range': all }, {}]) {
    const url = await registry(t, (_req, res) => res.writeHead(206, headers).end(BLOB));
    const { status, body } = await clientOf(t, url).getBlob({ repository, digest }, soon());
    t.equal(status, 'whole');
    t.ok(BLOB.equals(await readAll(body)));
  }
  const url = await registry(t, (_req, res) => {
    res.writeHead(206, { 'content-range': 'bytes 0-4/11' }).end(BLOB.subarray(0, 5));
  });
  await failure(clientOf(t, url).getBlob({ repository, digest }, soon()), 'BACKEND_DOWN');
});

t.test('a part is the one that was asked for, however its range is written', async (t) => {
  const range = { start: 2, end: 4 };
  for (const said of ['bytes 2-4/11', 'bytes=2-4/11', '2-4/11', 'bytes 2-4']) {
    const url = await registry(t, (_req, res) => {
      res.writeHead(206, { 'content-range': said }).end(BLOB.subarray(2, 5));
    });
    const { start, body } = await clientOf(t, url).getBlob({ repository, digest, range }, soon());
    t.equal(start, 2, said);
    t.equal((await readAll(body)).toString(), 'llo', said);
  }
});

t.test('a HEAD that no token opens leaves the GET, of manifests too', async (t) => {
  const url = await registry(t, ({ method, headers: { authorization, host } }, res, { pathname }) => {
    if (pathname === '/token') return res.end('{"token":"good"}');
    if (authorization === 'Bearer good' && method === 'GET')
      return res.writeHead(200, { 'content-type': OCI_MANIFEST }).end(MANIFEST);
    const challenge = `Bearer realm="http://${host}/token",service="x"`;
    return res.writeHead(401, { 'www-authenticate': challenge }).end();
  });
  t.equal((await clientOf(t, url).headManifest(V1, soon())).digest, DIGEST);
});

t.test('answers with many or long headers are read', async (t) => {
  const url = await registry(t, (_req, res, { pathname }) => {
    const location = pathname.startsWith('/v2/') ? { location: `/store?sig=${'a'.repeat(10_000)}` } : {};
    const headers = { 'content-security-policy': 'x'.repeat(100_000), ...location };
    res.writeHead(pathname.startsWith('/v2/') ? 307 : 200, headers).end(BLOB);
  });
  const { body } = await clientOf(t, url).getBlob({ repository, digest }, soon());
  t.ok(BLOB.equals(await readAll(body)));
});
