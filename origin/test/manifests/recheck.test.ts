import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import t from 'tap';
import { Recheck } from '../../src/manifests/recheck.ts';

const NAME = { upstream: 'hub', repository: 'lib/x', digest: digestOf(Buffer.from('a')) } as never;
const TAGS = { ttl: 0, 'stale-limit': 1_000 };
const never = new AbortController().signal;

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
  const refused = recheck.check(NAME, 'ask', { authorization: 'Bearer refused' });
  const others = ['Bearer other', undefined, undefined].map(
    async (authorization) => await recheck.check(NAME, 'ask', { authorization }),
  );
  answer();
  await t.rejects(refused, { code: 'UPSTREAM_DENIED' });
  await Promise.all(others);
  t.same(asked, ['Bearer refused', 'Bearer other', undefined]);
});

t.test('what was confirmed, and then refused, is not served when nobody can be asked', async (t) => {
  for (const code of ['UPSTREAM_POLICY', 'UPSTREAM_DENIED', 'MANIFEST_UNKNOWN'] as const) {
    for (const leader of ['o1', 'o2']) {
      let said: CodedError | undefined;
      let isLeaderThere = true;
      const ask = async (): Promise<void> => {
        if (said !== undefined) throw said;
      };
      const answered = { status: 200, body: { dump: async () => undefined } };
      const recheck = new Recheck({
        members: {
          selfId: 'o1',
          leaderOf: () => leader,
          attended: async (_: string, work: (signal: AbortSignal) => Promise<void>) => await work(never),
          raw: async () => {
            if (!isLeaderThere) throw new CodedError('PEER_HTTP');
            return { ...answered, status: said === undefined ? 200 : 403 };
          },
          bytes: ask,
        },
        upstreams: {
          get: () => ({ mode: 'pull-through', 'manifest-recheck': 'always', tags: TAGS }),
          client: () => ({ headManifest: ask }),
        },
        log: silentLogger(),
        nowMs: () => 1,
      } as unknown as ConstructorParameters<typeof Recheck>[0]);
      const check = async (authorization?: string) => await recheck.check(NAME, 'ask', { authorization });
      const down = (isDown: boolean): void => {
        said = isDown ? new CodedError('BACKEND_DOWN') : undefined;
        isLeaderThere = !isDown;
      };
      await check();
      down(true);
      await check();
      down(false);
      said = new CodedError(code);
      await t.rejects(check('Bearer refused'), { code });
      down(true);
      await check();
      down(false);
      said = new CodedError(code);
      await t.rejects(check(), { code });
      down(true);
      await t.rejects(check(), { code: 'BACKEND_DOWN' }, `${code}, by ${leader}`);
      down(false);
      await check();
      down(true);
      await check();
    }
  }
});
