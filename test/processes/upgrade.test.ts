import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { callUntilAnswered, tagAt } from '@sepia/test-support/clients/registry-calls';
import { pullUntilGiven, pushUntilTaken, randomImage } from '@sepia/test-support/clients/registry-client';
import { until } from '@sepia/test-support/until';
import { Up } from '@sepia/test-support/up';
import t from 'tap';
import { request } from 'undici';

const FIXTURES = join(import.meta.dirname, 'fixtures');
const SMALL = [
  '--origins',
  '1',
  '--trackers',
  '1',
  '--proxies',
  '1',
  '--agents',
  '1',
  '--ports-from',
  '30000',
];

/** What an earlier version had acknowledged when its folder was put aside. */
interface Former {
  /** Digest of the manifest by `repository:tag`. */
  readonly live: Readonly<Record<string, string>>;
  /** Deleted: by tag, or by digest as `repository@digest`. */
  readonly dead: readonly string[];
}

for (const name of readdirSync(FIXTURES).filter((one) => one.endsWith('.tar.gz')))
  t.test(`the folder of a cluster of ${name.replace('.tar.gz', '')} is taken on`, async (t) => {
    const dir = t.testdir();
    execFileSync('tar', ['-xzf', join(FIXTURES, name), '-C', dir]);
    const former = JSON.parse(readFileSync(join(dir, 'former.json'), 'utf8')) as Former;
    // Twice: what this version wrote into the folder of the former reads, too.
    for (const round of ['first', 'second']) {
      const up = await Up.start(dir, SMALL);
      t.teardown(async () => await up.stop());
      const [proxy, agent] = [up.cluster.proxies[0]!.url, up.cluster.agents[0]!.url];
      for (const [image, digest] of Object.entries(former.live)) {
        const [repository = '', tag = ''] = image.split(':');
        t.equal(await tagAt(proxy, repository, tag), digest, `${round}: ${image} is where it was`);
        for (const url of [proxy, agent]) t.ok((await pullUntilGiven(url, repository, tag)) > 0, image);
      }
      for (const image of former.dead) {
        const [, repository, reference] = /^([^:@]+)[:@](.+)$/.exec(image)!;
        const head = await callUntilAnswered('HEAD', `${proxy}/v2/${repository}/manifests/${reference}`);
        t.equal(head.status, 404, `${round}: ${image} stays deleted`);
      }
      await pushUntilTaken(() => proxy, 'team/new', round, randomImage([3_000]));
      t.ok((await pullUntilGiven(agent, 'team/new', 'first')) > 0);
      for (const { adminUrl } of [...up.cluster.origins, ...up.cluster.agents]) {
        const warns = async (): Promise<boolean> =>
          /warning/.test(await (await request(`${adminUrl}/readyz`)).body.text());
        await until(async () => !(await warns()), `${round}: nothing is owed or damaged`);
      }
      t.equal(await up.stop(), 0);
      const kept = readdirSync(join(dir, 'members/origin-1/v1'));
      t.notOk(
        kept.some((one) => /damaged|aside/.test(one)),
        `${round}: nothing was set aside: ${kept}`,
      );
    }
  });
