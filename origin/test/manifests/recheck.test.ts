import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { unaskedError } from '@sepia/upstream/failure';
import t from 'tap';
import { Recheck } from '../../src/manifests/recheck.ts';

const NAME = { upstream: 'hub', repository: 'lib/x', digest: digestOf(Buffer.from('a')) } as never;
const TAGS = { ttl: 0, 'stale-limit': 1_000 };
const never = new AbortController().signal;

/** Checks of an origin that leads, at a registry that says no word of its own but `said`. */
function ledBy(registry: { readonly said?: CodedError | undefined }): Recheck {
  return new Recheck({
    members: { selfId: 'o1', leaderOf: () => 'o1' },
    upstreams: {
      get: () => ({ mode: 'pull-through', 'manifest-recheck': 'always', tags: TAGS }),
      client: () => ({
        headManifest: async () => {
          if (registry.said !== undefined) throw registry.said;
        },
      }),
    },
    log: silentLogger(),
    nowMs: () => 1,
  } as unknown as ConstructorParameters<typeof Recheck>[0]);
}

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
      const answered = { status: 200, headers: {}, body: { dump: async () => undefined } };
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

t.test('what was confirmed before a refusal, and is told after it, counts no more', async (t) => {
  const held = Promise.withResolvers<void>();
  const reached = Promise.withResolvers<void>();
  const registry: { said?: CodedError | undefined } = {};
  const recheck = ledBy(registry);
  // As whoever gets a manifest does.
  const pull = async (): Promise<void> => {
    const asked = recheck.asking();
    reached.resolve();
    await held.promise;
    recheck.confirmed(NAME, asked);
  };
  const pulling = pull();
  await reached.promise;
  registry.said = new CodedError('UPSTREAM_POLICY');
  await t.rejects(recheck.check(NAME, 'ask', {}), { code: 'UPSTREAM_POLICY' });
  held.resolve();
  await pulling;
  registry.said = new CodedError('BACKEND_DOWN');
  await t.rejects(recheck.check(NAME, 'ask', {}), { code: 'BACKEND_DOWN' }, 'the last word was a no');
  registry.said = undefined;
  t.equal(await recheck.check(NAME, 'ask', {}), undefined);
  registry.said = new CodedError('BACKEND_DOWN');
  t.equal(await recheck.check(NAME, 'ask', {}), 0, 'a yes after it counts');
});

t.test('who is served by an old check of the leader remembers that, and no new one', async (t) => {
  for (const mode of ['always', 'ttl'] as const) {
    let nowMs = 100_000;
    let isDown = false;
    let leader = 'o1';
    const part = (selfId: string, others: object): Recheck =>
      new Recheck({
        members: {
          selfId,
          leaderOf: () => leader,
          attended: async (_: string, work: (signal: AbortSignal) => Promise<unknown>) => await work(never),
          ...others,
        },
        upstreams: {
          get: () => ({
            ...{ mode: 'pull-through', 'manifest-recheck': mode },
            tags: { ttl: 5_000, 'stale-limit': 60_000 },
          }),
          client: () => ({
            headManifest: async () => {
              if (isDown) throw new CodedError('BACKEND_DOWN');
            },
          }),
        },
        log: silentLogger(),
        nowMs: () => nowMs,
      } as unknown as ConstructorParameters<typeof Recheck>[0]);
    const first = part('o1', {});
    const second = part('o2', {
      raw: async () => {
        const age = await first.check(NAME, 'skip', {});
        const headers = age === undefined ? {} : { 'sepia-stale': String(age) };
        return { status: 200, headers, body: { dump: async () => undefined } };
      },
    });
    t.equal(await first.check(NAME, 'ask', {}), undefined, 'asked now');
    isDown = true;
    nowMs += mode === 'ttl' ? 4_000 : 50_000;
    await second.check(NAME, 'ask', {});
    leader = 'o2';
    nowMs += mode === 'ttl' ? 4_000 : 20_000;
    if (mode === 'ttl')
      t.equal(await second.check(NAME, 'ask', {}), 8, 'the upstream is asked: it was 8 s ago');
    else
      await t.rejects(
        second.check(NAME, 'ask', {}),
        { code: 'BACKEND_DOWN' },
        'the limit counts from the check',
      );
  }
});

t.test('a denial that no registry said leaves what was confirmed', async (t) => {
  const registry: { said?: CodedError | undefined } = {};
  const recheck = ledBy(registry);
  const check = async (error?: CodedError): Promise<void> => {
    registry.said = error;
    await recheck.check(NAME, 'ask', {});
  };
  await check();
  await t.rejects(check(unaskedError('hub')), { code: 'UPSTREAM_DENIED' }, 'nobody to ask it as');
  await check(new CodedError('BACKEND_DOWN'));
  await t.rejects(check(new CodedError('UPSTREAM_DENIED', { detail: { status: 401 } })));
  await t.rejects(check(new CodedError('BACKEND_DOWN')), { code: 'BACKEND_DOWN' });
});
