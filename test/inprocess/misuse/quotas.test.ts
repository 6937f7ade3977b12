import { randomBytes } from 'node:crypto';
import { digestOf } from '@sepia/base/digest';
import {
  pullUntilGiven,
  pushImage,
  pushUntilTaken,
  randomImage,
} from '@sepia/test-support/clients/registry-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { request } from 'undici';

const MIB = 1024 * 1024;

t.test('a repository takes what its quota has room for, through any proxy', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), {
    origins: 7,
    proxies: 3,
    trackers: 0,
    agents: 0,
    upstreams: [
      { name: 'local', mode: 'none', quotas: [{ repositories: ['team/**'], size: '3MiB' }] },
      { name: 'other', mode: 'none' },
    ],
  });
  let turn = 0;
  const next = (): string => cluster.proxyUrls[turn++ % 3]!;
  const image = randomImage([MIB, MIB]);
  await pushUntilTaken(next, 'team/app', 'v1', image);
  await pushUntilTaken(next, 'team/app', 'v2', image);
  t.pass('the same content again takes no room');
  const large = randomImage([MIB, MIB]);
  const refused = await pushImage(next, 'team/app', 'v3', large).then(
    () => 'taken',
    (error: unknown) => String(error),
  );
  t.match(refused, /403/);
  t.match(refused, /DENIED/);
  t.match(refused, /3145728 bytes/);
  const mount = await request(
    `${next()}/v2/team/app/blobs/uploads/?mount=${image.layers[0]!.digest}&from=team/app`,
    { method: 'POST' },
  );
  await mount.body.dump();
  t.equal(mount.statusCode, 201, 'what it has already may be mounted');
  await pushUntilTaken(next, 'free/app', 'v1', large);
  t.ok((await pullUntilGiven(next(), 'free/app', 'v1')) > 2 * MIB, 'others are not concerned');
  t.ok((await pullUntilGiven(next(), 'team/app', 'v2')) > 2 * MIB);
});

/** Begins an upload and sends `bytes` in one chunk; the session's address, or the status that refused it. */
async function chunk(url: string, repository: string, bytes: Buffer): Promise<string | number> {
  const begun = await request(`${url}/v2/${repository}/blobs/uploads/`, { method: 'POST' });
  await begun.body.dump();
  const location = new URL(String(begun.headers['location']), url).href;
  const sent = await request(location, { method: 'PATCH', body: bytes });
  await sent.body.dump();
  return sent.statusCode === 202 ? location : sent.statusCode;
}

t.test('room is held while bytes come: pushes at once do not go over together', async (t) => {
  const quotas = [{ repositories: ['team/**'], size: '3MiB' }];
  await using cluster = await Constellation.start(t.testdir(), {
    origins: 3,
    proxies: 2,
    trackers: 0,
    agents: 0,
    upstreams: [{ name: 'local', mode: 'none', quotas }],
  });
  const bytes = Array.from({ length: 6 }, () => randomBytes(MIB));
  const urls = bytes.map((_, index) => cluster.proxyUrls[index % 2]!);
  const begun = await Promise.all(
    bytes.map(async (one, index) => await chunk(urls[index]!, 'team/app', one)),
  );
  const open = begun.flatMap((one, index) => (typeof one === 'string' ? [{ location: one, index }] : []));
  t.equal(open.length, 3, 'refused before they are taken');
  t.ok(begun.every((one) => typeof one === 'string' || one === 403));
  const done = await Promise.all(
    open.map(async ({ location, index }) => {
      const url = new URL(location);
      url.searchParams.set('digest', digestOf(bytes[index]!));
      const closed = await request(url, { method: 'PUT' });
      await closed.body.dump();
      return closed.statusCode;
    }),
  );
  t.same(done, [201, 201, 201]);
  t.equal(await chunk(urls[0]!, 'team/app', randomBytes(2 * MIB)), 403);

  const held = await chunk(urls[0]!, 'team/other', randomBytes(3 * MIB));
  t.type(held, 'string');
  t.equal(await chunk(urls[1]!, 'team/other', randomBytes(MIB)), 403);
  await (await request(String(held), { method: 'DELETE' })).body.dump();
  await until(
    async () => typeof (await chunk(urls[1]!, 'team/other', randomBytes(MIB))) === 'string',
    'what an upload held is free when it is cancelled',
  );
});

t.test('tags and records have quotas of their own', async (t) => {
  const quotas = [
    { repositories: ['tagged/**'], tags: 2 },
    { repositories: ['few/**'], records: 2 },
  ];
  await using cluster = await Constellation.start(t.testdir(), {
    origins: 3,
    proxies: 1,
    trackers: 0,
    agents: 0,
    upstreams: [{ name: 'local', mode: 'none', quotas }],
  });
  const url = (): string => cluster.proxyUrls[0]!;
  const image = randomImage([1_000]);
  const push = async (repository: string, tag: string): Promise<string> =>
    await pushImage(url, repository, tag, image).then(
      () => 'taken',
      (error: unknown) => String(error),
    );
  t.equal(await push('tagged/app', 'v1'), 'taken');
  t.equal(await push('tagged/app', 'v2'), 'taken');
  t.match(await push('tagged/app', 'v3'), /2 of 2 tags/);
  t.equal(await push('tagged/app', 'v1'), 'taken', 'a tag that is there may move');
  const gone = await request(`${url()}/v2/tagged/app/manifests/v2`, { method: 'DELETE' });
  await gone.body.dump();
  t.equal(await push('tagged/app', 'v3'), 'taken');
  t.match(await push('few/app', 'v1'), /of 2 records/, 'two blobs fit, their manifest does not');
});
