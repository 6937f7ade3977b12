import { conversionCluster } from '@sepia/test-support/cluster/conversion-cluster';
import { until } from '@sepia/test-support/until';
import t from 'tap';

const RULES = [
  { name: 'beside', from: 'local', repositories: ['beside/**'], result: 'referrer' },
  {
    name: 'elsewhere',
    from: 'local',
    repositories: ['team/**'],
    repository: 'lazy/{repository}',
    'tag-suffix': '',
    'delete-with-source': true,
  },
];
const SOURCE = 'io.sepia.conversion.source';

t.test('a scan rights what no webhook told', { timeout: 180_000 }, async (t) => {
  const here = await conversionCluster(t, RULES);
  const first = await here.push('team/app', 'moves', 'one');
  await here.push('team/app', 'goes', 'two');
  const third = await here.push('beside/app', '1', 'three');
  await here.start('accelerator-1', { scan: '1s' });
  const sourceOf = async (tag: string): Promise<string | undefined> =>
    (await here.manifest('lazy/team/app', tag))?.annotations[SOURCE];
  await until(
    async () =>
      (await sourceOf('moves')) === first &&
      (await sourceOf('goes')) !== undefined &&
      (await here.referrers('beside/app', third)).length === 1,
    'images from before are converted',
    60_000,
  );
  const second = await here.push('team/app', 'moves', 'one, but newer');
  t.equal(await here.remove('team/app', 'goes'), 202);
  await here.push('lazy/team/app', 'by-hand', 'nobody converted this');
  await until(async () => (await sourceOf('moves')) === second, 'the newest wins', 60_000);
  await until(
    async () => (await here.manifest('lazy/team/app', 'goes')) === undefined,
    'it goes too',
    60_000,
  );
  t.ok(await here.manifest('lazy/team/app', 'by-hand'), 'what is no result stays');
  t.ok(await here.manifest('team/app', 'moves'));
});
