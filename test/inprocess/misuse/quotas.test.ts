import { pullImage, pushImage, randomImage } from '@sepia/test-support/clients/registry-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
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
  await pushImage(next, 'team/app', 'v1', image);
  await pushImage(next, 'team/app', 'v2', image);
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
  await pushImage(next, 'free/app', 'v1', large);
  t.ok((await pullImage(next(), 'free/app', 'v1')) > 2 * MIB, 'others are not concerned');
  t.ok((await pullImage(next(), 'team/app', 'v2')) > 2 * MIB);
});
