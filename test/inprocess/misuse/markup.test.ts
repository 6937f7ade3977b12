import { rawHttp } from '@sepia/test-support/clients/raw-http';
import { pushUntilTaken, randomImage } from '@sepia/test-support/clients/registry-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import t from 'tap';
import { request } from 'undici';

const HTML = JSON.stringify({
  schemaVersion: 2,
  annotations: { x: '<script>alert(document.domain)</script>' },
});

t.test('what was pushed is never markup of a member', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), { origins: 3, proxies: 1, agents: 1 });
  const proxy = cluster.proxyUrls[0]!;
  const agent = cluster.agents[0]!.url;
  const image = randomImage([100_000]);
  await pushUntilTaken(() => proxy, 'team/app', 'v1', image);
  const put = async (type: string): Promise<number> => {
    const headers = { 'content-type': type };
    const answer = await request(`${proxy}/v2/team/app/manifests/html`, {
      method: 'PUT',
      body: HTML,
      headers,
    });
    await answer.body.dump();
    return answer.statusCode;
  };

  await t.test('a Content-Type that is none is refused by name', async (t) => {
    for (const type of ['x'.repeat(20_000), `text/${'x'.repeat(20_000)}`, 'text', 'text/html/x', ';'])
      t.equal(await put(type), 400, type.slice(0, 20));
  });

  await t.test('a manifest of type text/html: exact for registries, bytes for browsers', async (t) => {
    t.equal(await put('text/html'), 201);
    for (const url of [proxy, agent]) {
      for (const [accept, expected] of [
        ['*/*', 'text/html'],
        ['text/html,application/xhtml+xml', 'application/octet-stream'],
      ] as const) {
        const answer = await request(`${url}/v2/team/app/manifests/html`, { headers: { accept } });
        t.equal(await answer.body.text(), HTML, accept);
        t.equal(answer.headers['content-type'], expected, accept);
      }
    }
  });

  await t.test('every answer of every listener says that nothing is to be run', async (t) => {
    const { digest } = image.layers[0]!;
    const tried = {
      proxy: [
        proxy,
        '/v2/',
        '/v2/team/app/manifests/v1',
        `/v2/team/app/blobs/${digest}`,
        '/v2/x/manifests/none',
        '/v1/status',
        '/token',
        '/health',
        '/none',
        '/ui/',
        '/ui/state',
        '/',
      ],
      agent: [
        agent,
        '/v2/',
        '/v2/team/app/manifests/v1',
        `/v2/team/app/blobs/${digest}`,
        '/v2/team/app/tags/list',
        '/none',
      ],
      origin: [cluster.originUrls[0]!, '/v1/status', '/none'],
      tracker: [cluster.trackerUrls[0]!, '/announce', '/v1/status'],
      ...Object.fromEntries(
        cluster.ids.map((id) => [
          `admin of ${id}`,
          [cluster.adminUrl(id), '/livez', '/readyz', '/metrics', '/debug/routes', '/none'],
        ]),
      ),
    };
    for (const [who, [url = '', ...paths]] of Object.entries(tried)) {
      const heads = paths.flatMap((path) => [
        `GET ${path} HTTP/1.1\r\n`,
        `HEAD ${path} HTTP/1.1\r\n`,
        `GET ${path} HTTP/1.1\r\nRange: bytes=0-9\r\n`,
        `GET ${path} HTTP/1.1\r\nIf-None-Match: "${digest}"\r\n`,
      ]);
      for (const head of [...heads, 'GET / HTTP/1.1\r\nContent-Length: x\r\n', 'BREW / HTTP/1.1\r\n']) {
        const { text } = await rawHttp(url, `${head}Host: x\r\nConnection: close\r\n\r\n`, 30_000);
        const answer = text.slice(0, text.indexOf('\r\n\r\n')).toLowerCase();
        t.match(answer, /\r\nx-content-type-options: nosniff/, `${who}: ${head}`);
        t.match(answer, /\r\ncontent-security-policy: default-src 'none'/, `${who}: ${head}`);
      }
    }
  });
});
