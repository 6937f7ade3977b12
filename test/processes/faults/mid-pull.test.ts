import { join } from 'node:path';
import { pullImage } from '@sepia/test-support/clients/registry-client';
import { until } from '@sepia/test-support/until';
import { Up, type UpMember } from '@sepia/test-support/up';
import { FakeUpstream, makeImage } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';

const MIB = 1024 * 1024;
/** Rate of the upstream: a pull of 36 MiB takes about two seconds, so once some MiB are there it is in the middle. */
const UPSTREAM_RATE = 18 * MIB;
const MIDDLE_BYTES = 8 * MIB;
/** For one that was halted, on a busy machine. */
const READY_MS = 180_000;

/** Which members are hit in mid-pull; an agent's own pull may fail, all others must succeed. */
const VICTIMS = ['leader', 'origin', 'tracker', 'proxy', 'agent'] as const;

t.test('killed and frozen members in mid-pull', async (t) => {
  const upstream = await FakeUpstream.start();
  upstream.misbehave({ kind: 'blob', does: { type: 'slow', bytesPerSec: UPSTREAM_RATE } });
  t.teardown(() => upstream.stop());
  const topology = ['--origins', '7', '--proxies', '3', '--trackers', '2', '--agents', '5', '--restart'];
  await using up = await Up.start(join(t.testdir(), 'data'), [
    ...topology,
    '--upstream',
    `up=${upstream.url}`,
    '--ports-from',
    '28000',
  ]);
  const { origins, trackers, proxies, agents } = up.cluster;

  for (const signal of ['SIGKILL', 'SIGSTOP'] as const) {
    for (const victim of VICTIMS) {
      await t.test(`${signal} of ${victim}`, async (t) => {
        const image = makeImage({ layers: [24 * MIB, 12 * MIB], seed: `${signal}-${victim}` });
        upstream.push('team/app', image, `${signal}-${victim}`.toLowerCase());
        const before = await upstreamBytes(origins);
        const pulls = agents.map((agent) =>
          pullImage(agent.url, 'team/app', `${signal}-${victim}`.toLowerCase()).then(
            () => undefined,
            (error: unknown) => error,
          ),
        );
        const leaderAt = await until(
          async () => leaderOf(before, await upstreamBytes(origins)),
          'the pull is under way',
        );
        const target = {
          leader: origins[leaderAt]!,
          origin: origins[(leaderAt + 1) % origins.length]!,
          tracker: trackers[0]!,
          proxy: proxies[0]!,
          agent: agents[4]!,
        }[victim];
        const { pid } = up.member(target.name);
        process.kill(pid, signal);
        const results = await Promise.all(
          pulls.map((pull, at) => (victim === 'agent' && at === 4 ? undefined : pull)),
        );
        if (signal === 'SIGSTOP') process.kill(pid, 'SIGCONT');
        for (const [at, failure] of results.entries())
          t.equal(failure, undefined, `agent ${at + 1}: ${String(failure)}`);
        if (victim === 'agent') await pulls[4];
        if (signal === 'SIGKILL') await up.back(target, pid);
        else await until(async () => await isReady(target), `${target.name} is ready again`, READY_MS);
      });
    }
  }
});

/** Bytes that each origin took from upstreams; 0 for one that does not answer. */
async function upstreamBytes(origins: readonly UpMember[]): Promise<number[]> {
  return await Promise.all(
    origins.map(async ({ adminUrl }) => {
      const text = await fetch(`${adminUrl}/metrics`).then(
        (answer) => answer.text(),
        () => '',
      );
      return [...text.matchAll(/^sepia_origin_upstream_bytes_total\{[^}]*\} (\d+)/gm)].reduce(
        (sum, [, value]) => sum + Number(value),
        0,
      );
    }),
  );
}

/** Which origin took most, once all took enough; one that was killed counts from 0 again. */
function leaderOf(before: readonly number[], after: readonly number[]): number | undefined {
  const growth = after.map((value, at) => Math.max(0, value - before[at]!));
  const all = growth.reduce((sum, one) => sum + one, 0);
  return all < MIDDLE_BYTES ? undefined : growth.indexOf(Math.max(...growth));
}

async function isReady({ adminUrl }: UpMember): Promise<boolean> {
  return await fetch(`${adminUrl}/readyz`).then(
    (answer) => answer.ok,
    () => false,
  );
}
