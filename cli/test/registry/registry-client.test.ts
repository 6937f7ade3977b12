import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { type Digest, digestOf } from '@sepia/base/digest';
import { createDispatcher } from '@sepia/http/sockets';
import { fixedCredentials } from '@sepia/upstream/credentials/source';
import t, { type Test } from 'tap';
import { RegistryClient } from '../../src/registry/registry-client.ts';
import { type BlobFault, FakeRegistry } from '../support/fake-registry.ts';

const BYTES = randomBytes(300_000);

async function begin(
  t: Test,
  fault?: BlobFault,
): Promise<{ registry: FakeRegistry; client: RegistryClient; pull: () => Promise<Buffer> }> {
  const { registry, url, dispatcher } = await FakeRegistry.started(t);
  const digest = registry.addBlob(BYTES, fault) as Digest;
  const client = new RegistryClient({ dispatcher }, { url });
  const pull = async (): Promise<Buffer> => {
    const chunks: Buffer[] = [];
    await client.pullBlob('a/b', { digest, sizeBytes: BYTES.length }, (chunk) => void chunks.push(chunk));
    return Buffer.concat(chunks);
  };
  return { registry, client, pull };
}

t.test('a blob is read once when all is well', async (t) => {
  const { registry, pull } = await begin(t);
  t.ok(BYTES.equals(await pull()));
  t.equal(registry.requests.length, 1);
});

t.test('a cut body is resumed by Range, also where Range is ignored', async (t) => {
  for (const ignoreRange of [false, true]) {
    const { registry, pull } = await begin(t, (count) =>
      count === 1 ? { cutAfter: 100_000 } : { ignoreRange },
    );
    t.ok(BYTES.equals(await pull()), `ignoreRange ${ignoreRange}`);
    t.match(registry.requests[1], /bytes=\d+-$/);
  }
});

t.test('cuts before any byte end the pull after four tries', async (t) => {
  const { registry, pull } = await begin(t, () => ({ cutAfter: 0 }));
  await t.rejects(pull());
  t.equal(registry.requests.length, 4);
});

t.test('a registry that fails is asked again, one that refuses is not', async (t) => {
  const digest = digestOf(BYTES);
  const answered = async (...statuses: number[]): Promise<{ asked: number; error: unknown }> => {
    let asked = 0;
    const { url } = await serve(t, (_req, res) => {
      const status = statuses[Math.min(asked++, statuses.length - 1)]!;
      res.writeHead(status).end(status === 200 ? BYTES : '');
    });
    const pulled = clientOf(t, url).pullBlob('a/b', { digest, sizeBytes: BYTES.length }, () => {});
    const error = await pulled.then(
      () => undefined,
      (error: unknown) => error,
    );
    return { asked, error };
  };
  t.same(await answered(503, 429, 200), { asked: 3, error: undefined });
  t.match(await answered(502), { asked: 4, error: { code: 'REGISTRY_DOWN', message: /answered HTTP 502/ } });
  t.match(await answered(403), { asked: 1, error: { code: 'REQUEST_INVALID' } });
});

t.test('wrong bytes and wrong sizes are refused', async (t) => {
  const { client, pull, registry } = await begin(t, () => ({ corrupt: true }));
  await t.rejects(pull(), { code: 'DIGEST_MISMATCH' });
  const digest = digestOf(BYTES);
  registry.addBlob(BYTES);
  await t.rejects(
    client.pullBlob('a/b', { digest, sizeBytes: 1_000 }, () => undefined),
    { code: 'SIZE_MISMATCH' },
  );
  await t.rejects(
    client.pullBlob('a/b', { digest, sizeBytes: BYTES.length + 1 }, () => undefined),
    { code: 'SIZE_MISMATCH', message: `blob ${digest} has 300000 bytes; the manifest says more` },
  );
});

t.test('an empty blob', async (t) => {
  const { client, registry } = await begin(t);
  const digest = registry.addBlob(Buffer.alloc(0)) as Digest;
  await client.pullBlob('a/b', { digest, sizeBytes: 0 }, () => void t.fail('there is nothing to take'));
});

t.test('a push goes to the Location that it was given, and not at all where the blob is', async (t) => {
  const { client, registry } = await begin(t);
  const bytes = randomBytes(50_000);
  const blob = { digest: digestOf(bytes), sizeBytes: bytes.length, open: () => Readable.from([bytes]) };
  t.equal(await client.pushBlob('a/b', blob), true);
  t.ok(registry.blobs.get(blob.digest)?.equals(bytes));
  t.equal(await client.pushBlob('a/b', blob), false);
});

/** A server, until the end of the test, and what `Authorization` it was shown. */
async function serve(
  t: Test,
  answer: (req: IncomingMessage, res: ServerResponse) => void,
): Promise<{ url: string; shown: (string | undefined)[] }> {
  const shown: (string | undefined)[] = [];
  const server = createServer((req, res) => {
    shown.push(req.headers.authorization);
    req.resume().on('end', () => answer(req, res));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, shown };
}

function clientOf(t: Test, url: string): RegistryClient {
  const dispatcher = createDispatcher();
  t.teardown(() => dispatcher.destroy());
  return new RegistryClient(
    { dispatcher },
    { url, credentials: fixedCredentials({ username: 'ci', password: 'secret' }) },
  );
}

/** False for a request that shows no account: it was answered. */
function isKnown(req: IncomingMessage, res: ServerResponse): boolean {
  if (req.headers.authorization !== undefined) return true;
  res.writeHead(401, { 'www-authenticate': 'Basic realm="r"' }).end();
  return false;
}

t.test('an account is shown to the registry alone, not where an upload goes on', async (t) => {
  const store = await serve(t, (_req, res) => void res.writeHead(201).end());
  const registry = await serve(t, (req, res) => {
    if (!isKnown(req, res)) return;
    if (req.method === 'POST') res.writeHead(202, { location: `${store.url}/upload/1` }).end();
    else res.writeHead(404).end();
  });
  const bytes = Buffer.from('layer');
  const blob = { digest: digestOf(bytes), sizeBytes: bytes.length, open: () => Readable.from([bytes]) };
  t.equal(await clientOf(t, registry.url).pushBlob('a/b', blob), true);
  t.match(registry.shown.at(-1), /^Basic /);
  t.same(store.shown, [undefined]);
});

t.test('what a registry keeps elsewhere is read there, resumed, and no account shown', async (t) => {
  const digest = digestOf(BYTES);
  const asked: string[] = [];
  const store = await serve(t, (req, res) => {
    asked.push(`${req.method} ${req.url} ${req.headers.range ?? ''}`.trim());
    const from = Number(/^bytes=(\d+)-$/.exec(req.headers.range ?? '')?.[1] ?? 0);
    res.writeHead(from === 0 ? 200 : 206, { 'content-length': BYTES.length - from });
    if (req.method === 'HEAD') res.end();
    else if (from > 0) res.end(BYTES.subarray(from));
    else res.write(BYTES.subarray(0, 100_000), () => res.destroy());
  });
  const registry = await serve(t, (req, res) => {
    if (isKnown(req, res)) res.writeHead(307, { location: `${store.url}/kept?sig=a%2fb~` }).end('elsewhere');
  });
  const client = clientOf(t, registry.url);
  t.equal(await client.hasBlob('a/b', digest), true);
  const chunks: Buffer[] = [];
  const take = (chunk: Buffer): void => void chunks.push(chunk);
  await client.pullBlob('a/b', { digest, sizeBytes: BYTES.length }, take);
  t.ok(BYTES.equals(Buffer.concat(chunks)));
  t.same(asked.slice(0, 2), ['HEAD /kept?sig=a%2fb~', 'GET /kept?sig=a%2fb~']);
  t.match(asked[2], /^GET \/kept\?sig=a%2fb~ bytes=\d+-$/);
  t.ok(store.shown.every((one) => one === undefined));
});

t.test('a registry that leads nowhere is told', async (t) => {
  const registry = await serve(t, (req, res) => void res.writeHead(302, { location: req.url }).end());
  const digest = digestOf(BYTES);
  await t.rejects(
    clientOf(t, registry.url).pullBlob('a/b', { digest, sizeBytes: 1 }, () => undefined),
    { code: 'BACKEND_DOWN', message: /redirects more than 5 times/ },
  );
});

t.test('a blob that the registry keeps where nobody answers is pushed anew', async (t) => {
  const bytes = Buffer.from('layer');
  const blob = { digest: digestOf(bytes), sizeBytes: bytes.length, open: () => Readable.from([bytes]) };
  const gone = createServer();
  await new Promise<void>((resolve) => gone.listen(0, '127.0.0.1', resolve));
  const { port } = gone.address() as AddressInfo;
  await new Promise((resolve) => gone.close(resolve));
  for (const location of [`http://127.0.0.1:${port}/kept`, 'ftp://storage.example/kept', '']) {
    const registry = await serve(t, (req, res) => {
      const status = { HEAD: 307, POST: 202 }[req.method!] ?? 201;
      res.writeHead(status, { location: req.method === 'HEAD' ? location : '/up/1' }).end();
    });
    t.equal(await clientOf(t, registry.url).pushBlob('a/b', blob), true, location);
  }
  const registry = await serve(t, (_req, res) => {
    res.writeHead(307, { location: `http://127.0.0.1:${port}/kept` }).end();
  });
  const pulled = clientOf(t, registry.url).pullBlob('a/b', blob, () => undefined);
  const { host } = new URL(registry.url);
  await t.rejects(pulled, { code: 'REGISTRY_DOWN', message: new RegExp(`; ${host} leads there$`) });
});

t.test('an upload that begins at no URL of http is told', async (t) => {
  const bytes = Buffer.from('layer');
  const blob = { digest: digestOf(bytes), sizeBytes: bytes.length, open: () => Readable.from([bytes]) };
  for (const location of ['http://[x/up', 'ftp://storage.example/up']) {
    const registry = await serve(t, (req, res) => {
      res.writeHead(req.method === 'HEAD' ? 404 : 202, { location }).end();
    });
    await t.rejects(
      clientOf(t, registry.url).pushBlob('a/b', blob),
      { code: 'REGISTRY_DOWN', message: /at a Location that is no URL of http$/ },
      location,
    );
  }
});

t.test(
  'the address of an upload stays as it is written, by the scheme that the registry is reached by',
  async (t) => {
    const puts: (string | undefined)[] = [];
    const bytes = Buffer.from('layer');
    const blob = { digest: digestOf(bytes), sizeBytes: bytes.length, open: () => Readable.from([bytes]) };
    for (const location of ['one?_state=a%2fb~(c)%20d', '/up/two', 'https://HOST/up/three?x']) {
      const registry = await serve(t, (req, res) => {
        if (req.method === 'PUT') puts.push(req.url);
        const led = { location: location.replace('HOST', String(req.headers.host)) };
        if (req.method === 'HEAD') res.writeHead(404).end();
        else res.writeHead(req.method === 'POST' ? 202 : 201, req.method === 'POST' ? led : {}).end();
      });
      await clientOf(t, registry.url).pushBlob('a/b', blob);
    }
    const digest = `digest=${encodeURIComponent(blob.digest)}`;
    t.same(puts, [
      `/v2/a/b/blobs/uploads/one?_state=a%2fb~(c)%20d&${digest}`,
      `/up/two?${digest}`,
      `/up/three?x&${digest}`,
    ]);
  },
);

t.test('a manifest is asked for by digest after its tag; errors say what the registry said', async (t) => {
  const { client, registry } = await begin(t);
  const bytes = Buffer.from('{"schemaVersion":2}');
  await client.pushManifest('a/b', 'v1', bytes, 'application/vnd.oci.image.manifest.v1+json');
  const pulled = await client.pullManifest('a/b', 'v1');
  t.same(pulled, { bytes, digest: digestOf(bytes), mediaType: 'application/vnd.oci.image.manifest.v1+json' });
  t.match(registry.requests.at(-1), `GET /v2/a/b/manifests/${digestOf(bytes)}`);
  registry.manifests.get(digestOf(bytes))!.bytes = Buffer.from('{}');
  await t.rejects(client.pullManifest('a/b', digestOf(bytes)), { code: 'DIGEST_MISMATCH' });
  await t.rejects(client.pullManifest('a/b', digestOf(Buffer.from('x'))), {
    message: /answered MANIFEST_UNKNOWN: manifest unknown/,
  });
});
