import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { rawHttp } from '@sepia/test-support/clients/raw-http';
import {
  pullUntilGiven,
  pushUntilTaken,
  randomImage,
  sha256,
} from '@sepia/test-support/clients/registry-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { FakeUpstream } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import { request } from 'undici';

const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

t.test('requests that mean harm', async (t) => {
  const upstream = await FakeUpstream.start();
  await using cluster = await Constellation.start(t.testdir(), {
    agents: 1,
    upstreams: [
      { name: 'local', mode: 'none' },
      { name: 'up', url: upstream.url, mode: 'pull-through' },
    ],
  });
  const proxy = cluster.proxyUrls[0]!;
  const agent = cluster.agents[0]!.url;
  const doors = [
    ['proxy', proxy],
    ['agent', agent],
  ] as const;
  const image = randomImage([300_000, 10]);
  await pushUntilTaken(() => proxy, 'team/app', 'v1', image);

  /** The door still does its work. */
  const alive = async (): Promise<boolean> =>
    (await pullUntilGiven(proxy, 'team/app', 'v1')) > 0 &&
    (await pullUntilGiven(agent, 'team/app', 'v1')) > 0;

  await t.test('paths that climb are no paths', async (t) => {
    const paths = [
      '/v2/../../etc/passwd',
      '/v2/%2e%2e/%2e%2e/etc/passwd',
      '/v2/team/app/blobs/..%2f..%2f..%2fetc%2fpasswd',
      '/v2/team/app/blobs/sha256:..%2f..%2f..%2f..%2fetc%2fpasswd',
      '/v2/team/app/blobs/uploads/..%2f..%2fid',
      '/v2/team/app/blobs/uploads/origin-1.%2e%2e%2f%2e%2e%2fid',
      '/v2/..%2f..%2fid/manifests/v1',
      '/v2/team/app/manifests/..%2f..%2fid',
      '/v2/team//app/manifests/v1',
      '/v2/team/./app/manifests/v1',
      '/v2/team/app%00/manifests/v1',
      '/v2/team/app/manifests/v1%0d%0aX-Injected:%201',
      '/ui/../../package.json',
      '/ui/%2e%2e/%2e%2e/package.json',
      '/v2/%ff%fe/manifests/v1',
      '/v2/team/app/manifests/%',
    ];
    for (const [door, url] of doors) {
      for (const path of paths) {
        const { statuses, text } = await rawHttp(
          url,
          `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
        );
        t.ok(
          statuses.length === 1 && statuses[0]! >= 400 && statuses[0]! < 500,
          `${door} ${path}: ${statuses}`,
        );
        t.notMatch(text, /root:|X-Injected: 1\r|"workspaces"/i, `${door} ${path}`);
      }
    }
    t.ok(await alive());
  });

  await t.test(
    'requests with two lengths are refused, what follows them is not another request',
    async (t) => {
      const smuggled = 'GET /v2/team/app/manifests/v1 HTTP/1.1\r\nHost: x\r\n\r\n';
      const heads = {
        'length and chunked': 'Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
        'two lengths': `Content-Length: 0\r\nContent-Length: ${smuggled.length}\r\n\r\n`,
        'a list of lengths': `Content-Length: 0, ${smuggled.length}\r\n\r\n`,
        'a signed length': `Content-Length: +0\r\n\r\n`,
        'unknown coding': 'Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n',
        'coding with a blank': 'Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n',
        'a folded header': 'X-A: 1\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
        'bare line feeds': 'X-A: 1\nContent-Length: 0\n\n',
      };
      for (const [door, url] of doors) {
        for (const [name, head] of Object.entries(heads)) {
          const { statuses } = await rawHttp(
            url,
            `POST /v2/team/app/blobs/uploads/ HTTP/1.1\r\nHost: x\r\n${head}${smuggled}`,
          );
          t.notOk(statuses.slice(1).includes(200), `${door}, ${name}: ${statuses}`);
          t.notOk(statuses.includes(500), `${door}, ${name}: ${statuses}`);
        }
      }
      t.ok(await alive());
    },
  );

  await t.test('one host, one version of HTTP', async (t) => {
    for (const [door, url] of doors) {
      const host = new URL(url).host;
      for (const [line, headers, status] of [
        ['GET /v2/ HTTP/1.1', `Host: ${host}`, 200],
        ['GET /v2/ HTTP/1.0', `Host: ${host}`, 200],
        ['GET /v2/ HTTP/1.1', `Host: ${host}\r\nHost: ${host}`, 400],
        ['GET /v2/ HTTP/1.1', `Host: ${host}\r\nhOST: evil.example`, 400],
        [`GET http://${host}/v2/ HTTP/1.1`, `Host: ${host}\r\nHost: ${host}`, 400],
        ['GET /v2/ HTTP/1.1', 'X-Host: Host', 400],
        ['GET /v2/ HTTP/2.0', `Host: ${host}`, 400],
        ['GET /v2/ HTTP/0.9', `Host: ${host}`, 400],
      ] as const) {
        const { statuses } = await rawHttp(url, `${line}\r\n${headers}\r\nConnection: close\r\n\r\n`);
        t.same(statuses, [status], `${door}: ${line}, ${headers}`);
      }
    }
    t.ok(await alive());
  });

  await t.test('too much of everything', async (t) => {
    for (const [door, url] of doors) {
      const big = await rawHttp(
        url,
        `GET /v2/ HTTP/1.1\r\nHost: x\r\nX-Big: ${'a'.repeat(64 * 1024)}\r\nConnection: close\r\n\r\n`,
      );
      t.same(big.statuses, [431], `${door}: headers of 64 KiB`);
      const many = Array.from({ length: 3_000 }, (_, at) => `X-${at}: 1\r\n`).join('');
      const lines = await rawHttp(url, `GET /v2/ HTTP/1.1\r\nHost: x\r\n${many}Connection: close\r\n\r\n`);
      t.ok(
        lines.statuses.length === 1 && lines.statuses[0]! < 500,
        `${door}: 3,000 headers: ${lines.statuses}`,
      );
      const long = await request(`${url}/v2/${'a/'.repeat(5_000)}a/manifests/v1`);
      await long.body.dump();
      t.ok(long.statusCode >= 400 && long.statusCode < 500, `${door}: a path of 10 KiB: ${long.statusCode}`);
      const name = await request(`${url}/v2/${'a'.repeat(256)}/manifests/v1`);
      await name.body.dump();
      t.equal(name.statusCode, 400, `${door}: a name of 256 characters`);
      const ranges = Array.from({ length: 1_000 }, (_, at) => `${at * 2}-${at * 2}`).join(',');
      const { digest } = image.layers[0]!;
      const many2 = await request(`${url}/v2/team/app/blobs/${digest}`, {
        headers: { range: `bytes=${ranges}` },
      });
      t.ok((await many2.body.arrayBuffer()).byteLength <= 2 * 300_000, `${door}: a thousand ranges`);
      t.ok(many2.statusCode < 500, `${door}: a thousand ranges: ${many2.statusCode}`);
      const junk = await rawHttp(url, 'this is no HTTP at all\r\n\r\n');
      t.same(junk.statuses, [400], `${door}: no HTTP`);
      t.ok(junk.closed);
    }
    t.ok(await alive());
  });

  await t.test('manifests that are deep, huge, or lie', async (t) => {
    const put = async (body: string | Buffer, type = OCI_MANIFEST, reference = 'bad') => {
      const answer = await request(`${proxy}/v2/team/app/manifests/${reference}`, {
        method: 'PUT',
        body,
        headers: { 'content-type': type },
        headersTimeout: 60_000,
      });
      return { status: answer.statusCode, text: await answer.body.text() };
    };
    const deep = `${'['.repeat(2_000_000)}${']'.repeat(2_000_000)}`;
    t.equal((await put(deep)).status, 400, 'nested 2,000,000 deep');
    t.equal((await put(`{"schemaVersion":2,"x":${deep}}`)).status, 400, 'nested inside an object');
    t.equal((await put(Buffer.alloc(4 * 1024 * 1024 + 1, 0x20))).status, 413, 'larger than 4 MiB');
    t.equal((await put(Buffer.from([0xff, 0xfe, 0x7b]))).status, 400, 'no UTF-8');
    t.equal((await put('null')).status, 400);
    t.equal((await put('{"schemaVersion":2,"layers":{"length":1e9}}')).status, 400);
    t.equal((await put('{"__proto__":{"schemaVersion":2}}')).status, 400, 'no prototype is inherited');
    const foreign = createHash('sha256').update('nothing').digest('hex');
    const layers = Array.from({ length: 15_000 }, (_, at) => ({
      mediaType: 'a/b',
      digest: `sha256:${foreign.slice(0, 56)}${at.toString(16).padStart(8, '0')}`,
      size: 1,
    }));
    const many = await put(JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, layers }));
    t.equal(many.status, 400, `15,000 layers that are not there: ${many.text.slice(0, 200)}`);
    t.ok(many.text.length < 20_000, 'the answer does not list them all');
    const wrong = await put(image.manifest, OCI_MANIFEST, sha256(Buffer.from('other')));
    t.equal(wrong.status, 400, 'a digest that is not its own');
    t.match(wrong.text, /DIGEST_INVALID/);
    t.ok(await alive());
  });

  await t.test('digests that are nearly digests', async (t) => {
    const { digest } = image.layers[0]!;
    const hex = digest.slice(7);
    const odd = [
      `sha256:${hex.toUpperCase()}`,
      `sha256:${hex}00`,
      `sha256:${hex.slice(2)}`,
      `sha512:${hex}`,
      `md5:${hex.slice(0, 32)}`,
      `SHA256:${hex}`,
      `sha256:${hex}%00`,
      `sha256:${hex}%20`,
      `sha256+b64:${hex}`,
    ];
    for (const [door, url] of doors) {
      for (const one of odd) {
        const answer = await request(`${url}/v2/team/app/blobs/${one}`);
        await answer.body.dump();
        t.ok([400, 404].includes(answer.statusCode), `${door} ${one}: ${answer.statusCode}`);
      }
    }
    const begun = await request(`${proxy}/v2/team/app/blobs/uploads/`, { method: 'POST' });
    await begun.body.dump();
    const target = new URL(String(begun.headers['location']), proxy);
    target.searchParams.set('digest', digest);
    const lied = await request(target, { method: 'PUT', body: 'other bytes' });
    t.match(await lied.body.text(), /DIGEST_INVALID/);
    t.equal(lied.statusCode, 400);
    t.ok(await alive(), 'the blob of that digest is as it was');
  });

  await t.test('no host is dialled because a request or a manifest names it', async (t) => {
    let dialled = 0;
    const trap = createServer((_req, res) => {
      dialled += 1;
      res.end();
    });
    trap.on('connection', () => {
      dialled += 1;
    });
    await new Promise<void>((resolve) => trap.listen(0, '127.0.0.1', resolve));
    const host = `127.0.0.1:${(trap.address() as AddressInfo).port}`;
    for (const [door, url] of doors) {
      for (const path of [
        `/v2/team/app/manifests/v1?ns=${host}`,
        `/v2/team/app/manifests/v1?ns=http://${host}/`,
        `/v2/${host}/team/app/manifests/v1`,
        `/v2/team/app/tags/list?ns=${host}`,
        `/v2/team/app/blobs/${image.layers[0]!.digest}?ns=${host}`,
        `/v2/team/app/manifests/v1?ns=up@${host}`,
      ]) {
        const answer = await request(url + path);
        await answer.body.dump();
        t.ok(answer.statusCode >= 400 && answer.statusCode < 500, `${door} ${path}: ${answer.statusCode}`);
      }
      const absolute = await rawHttp(
        url,
        `GET http://${host}/v2/team/app/manifests/v1 HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`,
      );
      t.ok(absolute.statuses[0]! < 500, `${door}: absolute form: ${absolute.statuses}`);
      const tunnel = await rawHttp(url, `CONNECT ${host} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
      t.notOk(tunnel.statuses.includes(200), `${door}: CONNECT: ${tunnel.statuses}`);
    }
    const manifest = JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: {
        mediaType: 'application/vnd.oci.image.config.v1+json',
        digest: image.config.digest,
        size: image.config.bytes.length,
      },
      layers: [
        {
          mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip',
          digest: sha256(Buffer.from('foreign')),
          size: 7,
          urls: [`http://${host}/layer`],
        },
      ],
    });
    const put = await request(`${proxy}/v2/team/app/manifests/foreign`, {
      method: 'PUT',
      body: manifest,
      headers: { 'content-type': OCI_MANIFEST },
    });
    await put.body.dump();
    t.equal(put.statusCode, 201, 'a foreign layer need not be there');
    const layer = await request(`${agent}/v2/team/app/blobs/${sha256(Buffer.from('foreign'))}`);
    await layer.body.dump();
    t.equal(layer.statusCode, 404);
    t.equal(dialled, 0, 'nobody called');
    trap.closeAllConnections();
    await new Promise((resolve) => trap.close(resolve));
  });

  await t.test('internal routes are closed to whoever has no key', async (t) => {
    const { digest } = image.layers[0]!;
    for (const [url, method, path] of [
      [cluster.originUrls[0]!, 'GET', `/v1/blobs/${digest}?upstream=local&repository=team/app`],
      [cluster.originUrls[0]!, 'PUT', `/v1/blobs/${digest}?upstream=local&repository=team/app&copy=1`],
      [cluster.originUrls[0]!, 'POST', '/v1/register'],
      [cluster.originUrls[0]!, 'PUT', '/v1/links'],
      [cluster.originUrls[0]!, 'GET', '/v1/cluster'],
      [cluster.trackerUrls[0]!, 'PUT', '/v1/nodes/evil'],
      [cluster.trackerUrls[0]!, 'DELETE', '/v1/nodes/agent-1'],
      [cluster.trackerUrls[0]!, 'POST', `/v1/swarms/${digest}/join`],
      [proxy, 'GET', '/v1/status'],
    ] as const) {
      for (const authorization of ['', 'Sepia v=1,id=origin-1,date=0,nonce=00,sig=00', 'Bearer x']) {
        const answer = await request(url + path, {
          method,
          ...(authorization === '' ? {} : { headers: { authorization } }),
        });
        await answer.body.dump();
        t.equal(answer.statusCode, 403, `${method} ${path} with "${authorization}"`);
      }
    }
    t.ok(await alive());
  });
  await upstream.stop();
});
