import { Readable } from 'node:stream';
import { digestOf } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { SEED } from '@sepia/test-support/seeded';
import { until, untilAnswered } from '@sepia/test-support/until';
import t from 'tap';
import { type Answer, ask, type Content, manifestOf, pushBlob, randomContent } from './support/client.ts';

function shuffler(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

async function chunkedPush(
  pick: () => string,
  name: string,
  content: Content,
  chunkBytes: number,
): Promise<Answer> {
  const begun = await ask(`${pick()}/v2/${name}/blobs/uploads/`, 'POST');
  let location = String(begun.headers.location);
  for (let from = 0; from < content.bytes.length; from += chunkBytes) {
    const body = content.bytes.subarray(from, from + chunkBytes);
    const headers = { 'content-range': `${from}-${from + body.length - 1}` };
    const patched = await ask(pick() + location, 'PATCH', { headers, body });
    if (patched.status !== 202) return patched;
    location = String(patched.headers.location);
    const status = await ask(pick() + location);
    if (status.headers.range !== `0-${from + body.length - 1}`) return status;
  }
  return await ask(`${pick()}${location}?digest=${content.digest}`, 'PUT');
}

t.test(`chunks and ways of pushing shuffled over 3 proxies and 7 origins (SEED=${SEED})`, async (t) => {
  await using cluster = await Constellation.start(t.testdir(), {
    origins: 7,
    trackers: 0,
    proxies: 3,
    agents: 0,
  });
  const random = shuffler(SEED);
  const pick = (): string => cluster.proxyUrls[random(3)]!;
  const pushOne = async (index: number): Promise<void> => {
    const name = `team/app-${index % 3}`;
    const content = randomContent(1 + random(900_000));
    const ways = [
      async () => await chunkedPush(pick, name, content, 100_000 + random(200_000)),
      async () => await pushBlob(pick(), name, content),
      async () =>
        await ask(`${pick()}/v2/${name}/blobs/uploads/?digest=${content.digest}`, 'POST', {
          body: content.bytes,
        }),
    ];
    // All of them at once may be more than this machine does in the time that a member is given.
    const done = await untilAnswered(ways[index % 3]!, `push ${index}`);
    t.equal(done.status, 201, `push ${index}: ${done.text}`);
    const get = async (repository: string, method: 'GET' | 'HEAD'): Promise<Answer> =>
      await untilAnswered(
        async () => await ask(`${pick()}/v2/${repository}/blobs/${content.digest}`, method),
        `${method} ${index}`,
      );
    const pulled = await get(name, 'GET');
    t.equal(pulled.status, 200, `pull ${index}: ${pulled.text.slice(0, 500)}`);
    t.equal(digestOf(pulled.bytes), content.digest, `pull ${index}`);
    t.equal((await get(`${name}-other`, 'HEAD')).status, 404, `no link ${index}`);
  };
  await Promise.all(Array.from({ length: 24 }, (_, index) => pushOne(index)));
});

t.test(
  'pushes and pulls go on while one origin of three is away, and nothing acknowledged is lost',
  async (t) => {
    await using cluster = await Constellation.start(t.testdir(), {
      origins: 3,
      trackers: 0,
      proxies: 2,
      agents: 0,
    });
    const [one, two] = cluster.proxyUrls as [string, string];
    const [config, layer] = [randomContent(200), randomContent(3_000_000)];
    for (const blob of [config, layer]) t.equal((await pushBlob(one, 'app', blob)).status, 201);
    const manifest = manifestOf(config, [layer]);
    const put = (url: string, tag: string): Promise<Answer> =>
      ask(`${url}/v2/app/manifests/${tag}`, 'PUT', {
        headers: { 'content-type': OCI_MANIFEST },
        body: manifest.bytes,
      });
    t.equal((await put(one, 'v1')).status, 201);
    for (const away of ['origin-1', 'origin-2', 'origin-3']) {
      await cluster.stopMember(away);
      const next = randomContent(500_000);
      // Origins pass over a member that was away for some seconds more; a client would try again as well.
      await until(async () => (await pushBlob(two, 'app', next)).status === 201, `push without ${away}`);
      t.equal((await put(two, `without-${away}`)).status, 201, `tag without ${away}`);
      t.ok(
        (await ask(`${one}/v2/app/manifests/v1`)).bytes.equals(manifest.bytes),
        `tag read without ${away}`,
      );
      for (const { digest } of [config, layer, next]) {
        const pulled = await ask(`${one}/v2/app/blobs/${digest}`);
        t.equal(pulled.status, 200, `pull without ${away}: ${pulled.text.slice(0, 500)}`);
        t.equal(digestOf(pulled.bytes), digest, `pull without ${away}`);
      }
      await cluster.startMember(away);
      await until(
        async () =>
          JSON.parse((await ask(`${one}/ui/state`)).text).members.every(
            (member: { up: boolean }) => member.up,
          ),
        'all up',
      );
    }
    t.same(JSON.parse((await ask(`${two}/v2/app/tags/list`)).text).tags, [
      'v1',
      'without-origin-1',
      'without-origin-2',
      'without-origin-3',
    ]);
  },
);

t.test(
  'a chunk without length that is not as long as its range is refused, and says where the upload stands',
  async (t) => {
    await using cluster = await Constellation.start(t.testdir(), {
      origins: 1,
      trackers: 0,
      proxies: 1,
      agents: 0,
    });
    const [url] = cluster.proxyUrls as [string];
    const content = randomContent(300_000);
    const chunk = async (path: string, method: string, from: number, bytes: Buffer, end: number) =>
      await ask(url + path, method, {
        headers: { 'content-range': `${from}-${end}` },
        body: Readable.from([bytes.subarray(0, 50_000), bytes.subarray(50_000)]),
      });
    const begun = await ask(`${url}/v2/app/blobs/uploads/`, 'POST');
    const at = String(begun.headers.location);
    const { bytes } = content;
    const shorter = await chunk(at, 'PATCH', 0, bytes.subarray(0, 100_000), 199_999);
    t.equal(shorter.status, 400);
    t.match(shorter.bytes.toString(), /SIZE_INVALID.*not as long as its Content-Range/);
    t.equal(shorter.headers.range, '0-99999');
    const longer = await chunk(at, 'PATCH', 100_000, bytes.subarray(100_000, 200_000), 149_999);
    t.equal(longer.status, 400);
    t.equal(longer.headers.range, '0-149999', 'what fits stays');
    const last = await chunk(
      `${at}?digest=${content.digest}`,
      'PUT',
      150_000,
      bytes.subarray(150_000),
      300_000,
    );
    t.equal(last.status, 400, 'as of the one that closes the upload');
    const right = await chunk(at, 'PATCH', 300_000, Buffer.alloc(60_000), 359_999);
    t.equal(right.status, 202);
    t.equal(right.headers.range, '0-359999');
  },
);

t.test('sha512 and empty blobs, subjects and mounts with real origins', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), {
    origins: 3,
    trackers: 0,
    proxies: 2,
    agents: 0,
  });
  const [one, two] = cluster.proxyUrls as [string, string];
  const bytes = randomContent(100_000).bytes;
  const strong: Content = { bytes, digest: digestOf(bytes, 'sha512') };
  const empty: Content = { bytes: Buffer.alloc(0), digest: digestOf(Buffer.alloc(0)) };
  for (const content of [strong, empty]) {
    t.equal((await chunkedPush(() => one, 'app', content, 40_000)).status, 201);
    const got = await ask(`${two}/v2/app/blobs/${content.digest}`);
    t.equal(got.status, 200);
    t.ok(got.bytes.equals(content.bytes));
  }
  const mounted = await ask(`${two}/v2/copy/blobs/uploads/?mount=${strong.digest}&from=app`, 'POST');
  t.equal(mounted.status, 201);
  t.equal((await ask(`${one}/v2/copy/blobs/${strong.digest}`, 'HEAD')).status, 200);
  const config = randomContent(30);
  await pushBlob(one, 'app', config);
  const about = manifestOf(config, [], {
    subject: { mediaType: OCI_MANIFEST, digest: empty.digest, size: 0 },
  });
  const put = await ask(`${one}/v2/app/manifests/${about.digest}`, 'PUT', {
    headers: { 'content-type': OCI_MANIFEST },
    body: about.bytes,
  });
  t.equal(put.status, 201);
  t.equal(put.headers['oci-subject'], empty.digest);
  t.equal((await ask(`${two}/v2/app/manifests/${about.digest}`)).status, 200);
});
