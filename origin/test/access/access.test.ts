import { CodedError } from '@sepia/base/errors';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { until } from '@sepia/test-support/until';
import type { Authorizer } from '@sepia/upstream/authenticator';
import { DENIED_ELSEWHERE } from '@sepia/upstream/failure';
import type { UpstreamClient } from '@sepia/upstream/upstream-client';
import t from 'tap';
import { Access } from '../../src/access/access.ts';
import { PrivateRepositories } from '../../src/access/private-repositories.ts';
import { Sessions } from '../../src/access/sessions.ts';
import type { PublicRepositories } from '../../src/records/public-repositories.ts';

/** How far the date is before the steady clock: nothing may mix them up. */
const DATE_MS = 3_600_000;
const MINUTE_MS = 60_000;
const NAME = { upstream: 'up', repository: parseRepositoryName('team/app') };
const BASIC = `Basic ${Buffer.from('ada:secret').toString('base64')}`;
const ITEM = { kind: 'repository' } as const;
const NOBODY = { challenge: () => ({ scheme: 'bearer', realm: 'http://up/token' }) } as unknown as Authorizer;

/** `Access` before an upstream that does what the test says. */
class Bench {
  nowMs = 1_000_000;
  state: 'public' | 'private' | 'down' | 'refused' | 'closed-elsewhere' = 'public';
  /** Its answer is that of the moment in which it was asked, not of when it comes. */
  isDecidedFirst = false;
  noted = 0;
  /** The upstream says nothing before this resolves. */
  thinks: Promise<void> | undefined;
  /** What those get who show something, if not the same. */
  mine: Bench['state'] | undefined;
  recorded: Awaited<ReturnType<PublicRepositories['recall']>>;
  recalls = 0;
  readonly asked = { nobody: 0, somebody: 0 };
  readonly access: Access;

  constructor() {
    const listTags = async ({ as }: { as: Authorizer }): Promise<unknown> => {
      this.asked[as === NOBODY ? 'nobody' : 'somebody'] += 1;
      const decided = this.isDecidedFirst ? this.state : undefined;
      await this.thinks;
      const state = decided ?? (as === NOBODY ? this.state : (this.mine ?? this.state));
      if (state === 'down') throw new CodedError('BACKEND_DOWN');
      if (state === 'closed-elsewhere')
        throw new CodedError('BACKEND_DOWN', { detail: { reason: DENIED_ELSEWHERE } });
      if (state === 'private') throw new CodedError('UPSTREAM_DENIED', { detail: { status: 401 } });
      if (state === 'refused')
        throw new CodedError('UPSTREAM_DENIED', { detail: { status: 451, reason: 'request-refused' } });
      return {};
    };
    const client = { listTags, authorizer: () => ({}) } as unknown as UpstreamClient;
    const nowMs = (): number => this.nowMs;
    this.access = new Access({
      upstreams: {
        client: () => client,
        anonymous: () => NOBODY,
        get: () => ({ tags: { 'stale-limit': 24 * 60 * MINUTE_MS }, 'fetch-with': 'robot' }),
      },
      sessions: new Sessions({ nowMs, dateMs: () => this.nowMs + DATE_MS }),
      privates: new PrivateRepositories(nowMs),
      publics: {
        note: () => {
          this.noted += 1;
        },
        forget: async () => undefined,
        recall: async () => {
          this.recalls += 1;
          return this.recorded;
        },
      },
      nowMs,
      dateMs: () => this.nowMs + DATE_MS,
      patienceMs: 1,
    } as unknown as ConstructorParameters<typeof Access>[0]);
  }

  async verdict(authorization?: string): Promise<string> {
    return (await this.access.check(NAME, ITEM, authorization)).verdict;
  }
}

t.test('during an outage the record counts more than an old memory of what was public', async (t) => {
  const bench = new Bench();
  t.equal(await bench.verdict(), 'public');
  bench.nowMs += 10 * MINUTE_MS;
  bench.state = 'down';
  await t.rejects(bench.verdict(), { code: 'BACKEND_DOWN' }, 'another origin heard that it is private');
  bench.recorded = 'unreadable';
  t.equal(await bench.verdict(), 'public', 'without a record the memory counts');
  bench.recorded = bench.nowMs + DATE_MS - MINUTE_MS;
  t.equal(await bench.verdict(), 'public', 'on record');
});

t.test('made-up tokens cost the upstream one request each, the same one none', async (t) => {
  const bench = new Bench();
  bench.state = 'private';
  for (let at = 0; at < 20; at++) t.equal(await bench.verdict(`Bearer made-up-${at}`), 'challenge');
  t.same(bench.asked, { nobody: 1, somebody: 20 });
  for (let at = 0; at < 20; at++) t.equal(await bench.verdict('Bearer made-up-1'), 'challenge');
  t.same(bench.asked, { nobody: 1, somebody: 20 });
  bench.nowMs += 6_000;
  bench.state = 'public';
  t.equal(await bench.verdict('Bearer made-up-1'), 'granted', 'a refusal is forgotten soon');
});

t.test('a no to the request itself asks nobody to log in, and is not remembered', async (t) => {
  const bench = new Bench();
  bench.state = 'refused';
  for (const authorization of [undefined, 'Bearer somebody'])
    await t.rejects(bench.verdict(authorization), { code: 'UPSTREAM_DENIED', detail: { status: 451 } });
  bench.state = 'public';
  t.equal(await bench.verdict(), 'public');
});

t.test('a no to what somebody asks with a right is theirs, and their credentials stay good', async (t) => {
  const bench = new Bench();
  bench.state = 'private';
  t.equal(await bench.verdict(), 'challenge', 'private, as is known from now on');
  bench.mine = 'refused';
  await t.rejects(bench.verdict('Bearer somebody'), { code: 'UPSTREAM_DENIED', detail: { status: 451 } });
  bench.mine = 'public';
  t.equal(await bench.verdict('Bearer somebody'), 'granted');
});

t.test('what another registry holds behind this one, and closes, is public no longer', async (t) => {
  const bench = new Bench();
  t.equal(await bench.verdict(), 'public');
  bench.nowMs += 6 * MINUTE_MS;
  bench.state = 'closed-elsewhere';
  await t.rejects(bench.verdict(), { code: 'BACKEND_DOWN' });
  bench.state = 'down';
  await t.rejects(bench.verdict(), { code: 'BACKEND_DOWN' }, 'nor during an outage behind it');
});

t.test('what was public is served while the upstream hangs, and what it says at last counts', async (t) => {
  const bench = new Bench();
  t.equal(await bench.verdict(), 'public');
  bench.nowMs += 6 * MINUTE_MS;
  bench.recorded = bench.nowMs + DATE_MS - MINUTE_MS;
  const { promise, resolve } = Promise.withResolvers<void>();
  bench.thinks = promise;
  for (const authorization of [undefined, 'Bearer somebody', BASIC, BASIC])
    t.equal(await bench.verdict(authorization), 'public');
  t.same(bench.asked, { nobody: 2, somebody: 2 }, 'a password is shown once');
  bench.state = 'private';
  bench.recorded = undefined;
  resolve();
  t.equal(await bench.verdict(), 'challenge');
});

t.test('whom nothing lets in meanwhile waits for what a slow upstream says', async (t) => {
  const bench = new Bench();
  const { promise, resolve } = Promise.withResolvers<void>();
  bench.thinks = promise;
  const asked = bench.verdict();
  await until(() => bench.recalls > 0, 'what is on record is looked for');
  resolve();
  t.equal(await asked, 'public');
});

t.test('a yes to nobody that was asked for before a no, and comes after it, is not remembered', async (t) => {
  const bench = new Bench();
  bench.isDecidedFirst = true;
  const early = Promise.withResolvers<void>();
  bench.thinks = early.promise;
  const first = bench.access.check(NAME, ITEM, undefined);
  await until(() => bench.asked.nobody === 1, 'the first question is asked');
  bench.thinks = undefined;
  bench.state = 'private';
  const other = { kind: 'blob', digest: 'none' } as const;
  t.equal((await bench.access.check(NAME, other, undefined)).verdict, 'challenge');
  early.resolve();
  t.same(await first, { verdict: 'public', ttlMs: 0 }, 'an answer for who asked then');
  t.equal(await bench.verdict(), 'challenge', 'and for nobody else');
  t.equal(bench.noted, 0, 'nor on record');
  bench.nowMs += 6 * MINUTE_MS;
  bench.state = 'down';
  await t.rejects(bench.verdict(), { code: 'BACKEND_DOWN' }, 'nor while the upstream is away');
});
