import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import type { Cluster } from '@sepia/cluster/cluster';
import type { Whereabouts } from '@sepia/cluster/core/where';
import { AnswerPace } from '@sepia/http/answer-pace';
import { firstAttempt, Metainfo } from '@sepia/metainfo/metainfo';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { askEarly } from '../../src/metainfo/early.ts';
import { MetainfoKeeper } from '../../src/metainfo/metainfo-keeper.ts';
import type { Origins } from '../../src/metainfo/origins.ts';

const DIGEST = digestOf(Buffer.from('x'));
const NAME: BlobName = { digest: DIGEST, upstream: 'local', repository: parseRepositoryName('app') };

/** Origins a and b: what they say of the blob when the test lets them. */
class SlowOrigins {
  readonly asked: { readonly originId: string; readonly fetch: boolean; readonly signal: AbortSignal }[] = [];
  readonly said = Promise.withResolvers<Whereabouts[]>();
  readonly pace = new AnswerPace();
  readonly metainfoOf = new Map([
    ['a', Promise.withResolvers<Metainfo>()],
    ['b', Promise.withResolvers<Metainfo>()],
  ]);

  candidates = () => ({ ids: ['a', 'b'], ownerIds: ['a', 'b'] });
  where = async (): Promise<Whereabouts[]> => await this.said.promise;
  metainfo = async (
    originId: string,
    _name: BlobName,
    fetch: boolean,
    _wish: unknown,
    signal: AbortSignal,
  ) => {
    this.asked.push({ originId, fetch, signal });
    const gone = Promise.withResolvers<Metainfo>();
    signal.addEventListener('abort', () => gone.reject(signal.reason), { once: true });
    return await Promise.race([this.metainfoOf.get(originId)!.promise, gone.promise]);
  };
  poll = async (): Promise<Metainfo | undefined> => await new Promise(() => {});

  /** Says who has it: all that is not named has nothing. */
  says(state: Whereabouts['state'], at: string): void {
    const answers = ['a', 'b'].map((originId): Whereabouts => {
      return { originId, state: originId === at ? state : 'none', linked: true };
    });
    this.said.resolve(answers);
  }
}

function keeperOf(t: Test): { keeper: MetainfoKeeper; origins: SlowOrigins } {
  const origins = new SlowOrigins();
  const cluster = { takesDeletes: () => true } as unknown as Cluster;
  const deps = { cluster, origins: origins as unknown as Origins, log: silentLogger() };
  const keeper = new MetainfoKeeper({ ...deps, nowMs: () => 0, holders: () => [] }, { budgetBytes: 10_000 });
  t.teardown(() => keeper.stop());
  return { keeper, origins };
}

const open = (): Metainfo => Metainfo.open(DIGEST, 2 ** 20, firstAttempt(DIGEST));
const final = (): Metainfo => Metainfo.final(DIGEST, 2 ** 20, Buffer.alloc(32, 1));

t.test('the first owner is asked for its metainfo while all say what they have, once', async (t) => {
  const { keeper, origins } = keeperOf(t);
  const got = keeper.get(NAME, { all: true });
  await new Promise(setImmediate);
  t.same(
    origins.asked.map(({ originId, fetch }) => [originId, fetch]),
    [['a', true]],
    'nothing was said so far',
  );
  origins.metainfoOf.get('a')!.resolve(open());
  origins.says('none', 'a');
  t.same((await got).originIds, ['a']);
  t.equal((await got).metainfo.state, 'open');
  t.equal(origins.asked.length, 1);
});

t.test('where another has it that one is asked, and the first owner no more', async (t) => {
  const { keeper, origins } = keeperOf(t);
  const got = keeper.get(NAME);
  origins.says('final', 'b');
  origins.metainfoOf.get('b')!.resolve(final());
  t.same((await got).originIds, ['b']);
  t.same(
    origins.asked.map(({ originId, fetch }) => [originId, fetch]),
    [
      ['a', true],
      ['b', false],
    ],
  );
  t.equal(origins.asked[0]!.signal.aborted, true);
});

t.test('a first owner that comes second in turn is asked anew', async (t) => {
  const { keeper, origins } = keeperOf(t);
  const got = keeper.get(NAME);
  origins.said.resolve(
    ['a', 'b'].map((originId) => ({ originId, state: 'final', linked: originId === 'b' }) as const),
  );
  await until(() => origins.asked.length === 2, 'the one with the link is asked');
  origins.metainfoOf.get('b')!.reject(new CodedError('PEER_HTTP'));
  origins.metainfoOf.get('a')!.resolve(final());
  t.equal((await got).metainfo.state, 'final');
  t.same(
    origins.asked.map(({ originId, fetch, signal }) => [originId, fetch, signal.aborted]),
    [
      ['a', true, true],
      ['b', false, false],
      ['a', false, false],
    ],
  );
});

t.test('what the first owner refuses with is the answer where it is the one to ask', async (t) => {
  const { keeper, origins } = keeperOf(t);
  const got = keeper.get(NAME);
  origins.metainfoOf.get('a')!.reject(new CodedError('BLOB_UNKNOWN'));
  origins.says('none', 'b');
  await t.rejects(got, { code: 'BLOB_UNKNOWN' });
  t.equal(origins.asked.length, 1);
});

t.test('one that has it and falls silent is waited for no longer than for what is on disk', async (t) => {
  const asked: AbortSignal[] = [];
  const origins = {
    candidates: () => ({ ids: ['a'], ownerIds: ['a'] }),
    metainfo: async (...[, , , , signal]: Parameters<Origins['metainfo']>): Promise<Metainfo> => {
      asked.push(signal);
      return await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    },
  };
  const early = askEarly(origins, NAME, { all: true }, new AbortController().signal)!;
  await t.rejects(early.told(1), { code: 'PEER_HTTP' });
  t.equal(asked[0]!.aborted, true);
  early.drop();
});

t.test('without origins nothing is asked early', (t) => {
  const origins = {
    candidates: () => ({ ids: [], ownerIds: [] }),
    metainfo: () => Promise.reject(new Error()),
  };
  t.equal(askEarly(origins, NAME, { all: true }, new AbortController().signal), undefined);
  t.end();
});
