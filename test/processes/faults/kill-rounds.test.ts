import { join } from 'node:path';
import { delay } from '@sepia/base/lifecycle';
import {
  type PushedImage,
  pullUntilGiven,
  pushImage,
  randomImage,
} from '@sepia/test-support/clients/registry-client';
import { SEED, seeded } from '@sepia/test-support/seeded';
import { Up } from '@sepia/test-support/up';
import t from 'tap';

/** Rounds of kill -9; more before a release: `ROUNDS=200`. */
const ROUNDS = Number(process.env['ROUNDS'] ?? 20);
const PUSHES_PER_ROUND = 3;

t.test(
  `${ROUNDS} rounds of kill -9 during pushes: nothing acknowledged is lost (SEED=${SEED})`,
  async (t) => {
    const chance = seeded(SEED);
    const pick = <T>(list: readonly T[]): T => list[Math.floor(chance() * list.length)]!;
    const topology = ['--origins', '3', '--proxies', '2', '--trackers', '1', '--agents', '1', '--restart'];
    await using up = await Up.start(join(t.testdir(), 'data'), [...topology, '--ports-from', '29000']);
    const { origins, proxies, agents } = up.cluster;
    const acknowledged = new Map<string, PushedImage>();
    let refused = 0;

    for (let round = 0; round < ROUNDS; round++) {
      const pushes = Array.from({ length: PUSHES_PER_ROUND }, async (_, at) => {
        const tag = `r${round}-${at}`;
        const image = randomImage([200_000 + Math.floor(chance() * 2_000_000), 5_000]);
        try {
          await pushImage(() => pick(proxies).url, 'team/app', tag, image);
          acknowledged.set(tag, image);
        } catch (error) {
          refused += 1;
          t.comment(`${tag}: ${String(error).slice(0, 300)}`);
        }
      });
      await delay(Math.floor(chance() * 300));
      // Every fifth round all origins die at once.
      const victims = round % 5 === 4 ? origins : [pick([...origins, ...proxies])];
      const killed = victims.map((victim) => ({ victim, pid: up.member(victim.name).pid }));
      for (const { pid } of killed) process.kill(pid, 'SIGKILL');
      await Promise.all(pushes);
      for (const { victim, pid } of killed) await up.back(victim, pid);
    }

    t.ok(acknowledged.size > 0, `${acknowledged.size} pushes were acknowledged, ${refused} failed clearly`);
    for (const tag of acknowledged.keys()) {
      const failure = await pullUntilGiven(pick(proxies).url, 'team/app', tag).then(
        () => undefined,
        (error: unknown) => String(error),
      );
      if (failure !== undefined) t.fail(`${tag} was acknowledged and is lost: ${failure}`);
    }
    const [last] = [...acknowledged.keys()].slice(-1);
    t.ok((await pullUntilGiven(agents[0]!.url, 'team/app', last!)) > 0, 'an agent pulls what was pushed');
  },
);
