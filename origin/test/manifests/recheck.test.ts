import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import t from 'tap';
import { Recheck } from '../../src/manifests/recheck.ts';

const NAME = { upstream: 'hub', repository: 'lib/x', digest: digestOf(Buffer.from('a')) } as never;

t.test('what one login is refused is not told to who asks at the same time', async (t) => {
  const asked: (string | undefined)[] = [];
  let answer: () => void = () => undefined;
  const both = new Promise<void>((resolve) => {
    answer = resolve;
  });
  const client = (authorization?: string) => ({
    headManifest: async () => {
      asked.push(authorization);
      await both;
      if (authorization === 'Bearer refused') throw new CodedError('UPSTREAM_DENIED');
    },
  });
  const recheck = new Recheck({
    members: { selfId: 'o1', leaderOf: () => 'o1' },
    upstreams: {
      get: () => ({ mode: 'pull-through', 'manifest-recheck': 'always', tags: { ttl: 0, 'stale-limit': 0 } }),
      client: (_: string, authorization?: string) => client(authorization),
    },
    log: silentLogger(),
    nowMs: () => 1,
  } as unknown as ConstructorParameters<typeof Recheck>[0]);
  const refused = recheck.check(NAME, false, { authorization: 'Bearer refused' });
  const others = ['Bearer other', undefined, undefined].map(
    async (authorization) => await recheck.check(NAME, false, { authorization }),
  );
  answer();
  await t.rejects(refused, { code: 'UPSTREAM_DENIED' });
  await Promise.all(others);
  t.same(asked, ['Bearer refused', 'Bearer other', undefined]);
});
