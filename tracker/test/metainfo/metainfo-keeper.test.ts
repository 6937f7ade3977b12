import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { type Logger, silentLogger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import type { Cluster } from '@sepia/cluster/cluster';
import type { Whereabouts } from '@sepia/cluster/core/where';
import { AnswerPace } from '@sepia/http/answer-pace';
import { firstAttempt, Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { LogLines } from '@sepia/test-support/log-lines';
import { until } from '@sepia/test-support/until';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t, { type Test } from 'tap';
import { MetainfoKeeper } from '../../src/metainfo/metainfo-keeper.ts';
import type { Origins, Wish } from '../../src/metainfo/origins.ts';

const DIGEST = digestOf(Buffer.from('x'));
const NAME: BlobName = { digest: DIGEST, upstream: 'local', repository: parseRepositoryName('app') };
const SIGNAL = new AbortController().signal;
const ANY = AbortSignal.any.bind(AbortSignal);
const HASH = Buffer.alloc(32, 1);

const open = (hashes = 0): Metainfo => {
  const metainfo = Metainfo.open(DIGEST, 2 ** 20, firstAttempt(DIGEST));
  if (hashes > 0) metainfo.addHash(0, HASH);
  return metainfo;
};
const final = (): Metainfo => Metainfo.final(DIGEST, 2 ** 20, HASH);

/** Origins a and b as a test wants them: what each has, and what was asked of it. */
class FakeOrigins {
  readonly asked: string[] = [];
  readonly pace = new AnswerPace();
  has: Record<string, Metainfo | 'silent' | undefined> = {};
  /** Wakes polls that wait for news. */
  readonly #news: (() => void)[] = [];

  candidates = () => ({ ids: ['a', 'b'], ownerIds: ['a', 'b'] });

  where = async (): Promise<Whereabouts[]> => ['a', 'b'].map((originId) => this.#at(originId));

  whereAt = async (originId: string): Promise<Whereabouts> => {
    const told = this.#at(originId);
    if (told.state === 'silent') throw new CodedError('PEER_HTTP');
    return told;
  };

  word = async (originId: string, _name: BlobName, known: Metainfo): Promise<Metainfo> => {
    this.asked.push(`word ${originId}`);
    const held = this.has[originId];
    if (held === 'silent') throw new CodedError('PEER_HTTP');
    if (held === undefined) throw new CodedError('BLOB_UNKNOWN');
    return held.etag === known.etag ? known : this.#told(originId);
  };

  metainfo = async (originId: string, _name: BlobName, fetch: boolean, wish: Wish): Promise<Metainfo> => {
    this.asked.push(`${fetch ? 'fetch' : 'take'} ${originId} ${wish.all ? 'all' : 'ranges'}`);
    const held = this.has[originId];
    if (held === 'silent') throw new CodedError('PEER_HTTP');
    if (held === undefined && !fetch) throw new CodedError('BLOB_UNKNOWN');
    // Before it fetches it asks the others, and passes the question on.
    const other = Object.keys(this.has).find(
      (id) => this.#at(id).state === 'final' || this.#at(id).state === 'open',
    );
    if (held === undefined && other !== undefined) return this.#told(other);
    this.has[originId] = held ?? open();
    return Metainfo.decode((this.has[originId] as Metainfo).encode());
  };

  adopt = async (originId: string, _name: BlobName, known: Metainfo): Promise<Metainfo> => {
    this.asked.push(`adopt ${originId} ${known.knownCount}`);
    this.has[originId] = known;
    return Metainfo.decode(known.encode());
  };

  poll = async (originId: string, _name: BlobName, known: Metainfo): Promise<Metainfo | undefined> => {
    const held = this.has[originId];
    if (held === 'silent' || held === undefined) throw new CodedError('PEER_HTTP');
    if (held.etag === known.etag) await new Promise<void>((resolve) => this.#news.push(resolve));
    return this.has[originId] === 'silent' ? await this.poll(originId, _name, known) : this.#told(originId);
  };

  tell(originId: string, held: Metainfo | 'silent'): void {
    this.has[originId] = held;
    for (const wake of this.#news.splice(0)) wake();
  }

  #at(originId: string): Whereabouts {
    const held = this.has[originId];
    return { originId, state: held === 'silent' ? held : (held?.state ?? 'none'), linked: true };
  }

  #told(originId: string): Metainfo {
    return Metainfo.decode((this.has[originId] as Metainfo).encode());
  }
}

function keeperOf(
  t: Test,
  log: Logger = silentLogger(),
): { keeper: MetainfoKeeper; origins: FakeOrigins; clock: { nowMs: number } } {
  const origins = new FakeOrigins();
  const clock = { nowMs: 0 };
  const keeper = new MetainfoKeeper(
    {
      cluster: { takesDeletes: () => true } as unknown as Cluster,
      origins: origins as unknown as Origins,
      log,
      nowMs: () => clock.nowMs,
      holders: () => [],
    },
    { budgetBytes: 10_000 },
  );
  t.teardown(() => {
    keeper.stop();
    origins.tell('a', final());
  });
  return { keeper, origins, clock };
}

t.test('a blob is located once for all that join, and its leader hears of the wish for all', async (t) => {
  const { keeper, origins } = keeperOf(t);
  const both = await Promise.all([keeper.get(NAME), keeper.get(NAME)]);
  t.equal(both[0], both[1]);
  t.same(origins.asked, ['fetch a ranges']);
  await keeper.get(NAME, { all: true });
  t.same(origins.asked, ['fetch a ranges', 'fetch a all']);
  t.equal([...keeper.running()].length, 1);
});

t.test('news of the leader wakes who waits, and its end is told', async (t) => {
  const { keeper, origins } = keeperOf(t);
  const { metainfo } = await keeper.get(NAME, { all: true });
  const { etag } = metainfo;
  const news = keeper.wait(NAME, etag, 60_000, SIGNAL);
  origins.tell('a', final());
  t.equal((await news)?.state, 'final');
  t.equal(await keeper.wait(NAME, final().etag, 0, SIGNAL), undefined, 'nothing new');
  t.equal((await keeper.wait(NAME, etag, 60_000, SIGNAL))?.state, 'final', 'there is more already');
});

t.test('where many wait, pieces are told to few at once and the end to all', async (t) => {
  const { keeper, origins } = keeperOf(t);
  const { etag } = (await keeper.get(NAME, { all: true })).metainfo;
  const waits = Array.from({ length: 600 }, () => keeper.wait(NAME, etag, 60_000, SIGNAL));
  let told = 0;
  for (const wait of waits) void wait.then(() => (told += 1));
  origins.tell('a', open(1));
  t.equal((await waits[0])?.knownCount, 1, 'the first of them is told at once');
  t.ok(told < 600, 'the others are told later');
  origins.tell('a', final());
  t.equal((await waits.at(-1))?.state, 'final');
  const soon = Array.from({ length: 600 }, () => keeper.wait(NAME, etag, 5, SIGNAL));
  t.ok((await Promise.all(soon)).every((news) => news?.state === 'final'));
});

t.test('who is told later is not woken by each piece', async (t) => {
  const { keeper, origins } = keeperOf(t);
  const pieces = (hashes: number): Metainfo => {
    const metainfo = Metainfo.open(DIGEST, 20 * PIECE_BYTES, firstAttempt(DIGEST));
    for (let piece = 0; piece < hashes; piece++) metainfo.addHash(piece, HASH);
    return metainfo;
  };
  origins.has['a'] = pieces(0);
  const { metainfo } = await keeper.get(NAME, { all: true });
  const { etag } = metainfo;
  let begun = 0;
  t.capture(AbortSignal, 'any', (signals: AbortSignal[]) => {
    begun += 1;
    return ANY(signals);
  });
  const waits = Array.from({ length: 600 }, () => keeper.wait(NAME, etag, 60_000, SIGNAL));
  await until(() => begun >= 600, 'all wait');
  for (let known = 1; known < 20; known++) {
    origins.tell('a', pieces(known));
    await until(() => metainfo.knownCount === known, 'it is known');
  }
  t.ok(begun < 2_000, 'they wait anew once, not for each of them');
  origins.tell('a', Metainfo.final(DIGEST, 20 * PIECE_BYTES, Buffer.alloc(20 * 32, 1)));
  t.ok((await Promise.all(waits)).every((news) => news !== undefined));
});

t.test('when a leader dies the next adopts what is known', async (t) => {
  const { keeper, origins } = keeperOf(t);
  const { metainfo } = await keeper.get(NAME, { all: true });
  const news = keeper.wait(NAME, metainfo.etag, 60_000, SIGNAL);
  origins.tell('a', open(1));
  await news;
  origins.tell('a', 'silent');
  await until(() => origins.asked.includes('adopt b 1'), 'b adopts');
  await until(async () => (await keeper.get(NAME)).originIds[0] === 'b', 'b leads');
  t.equal((await keeper.get(NAME)).metainfo.knownCount, 1);
});

t.test('with no origin left what was proven is still told; what was deleted is not', async (t) => {
  const { keeper, origins, clock } = keeperOf(t);
  origins.has = { a: final(), b: undefined };
  await keeper.get(NAME);
  clock.nowMs = 20_000;
  origins.has = { a: 'silent', b: 'silent' };
  t.equal((await keeper.get(NAME)).metainfo.state, 'final');
  keeper.revoke([NAME]);
  await t.rejects(keeper.get(NAME), { code: 'NO_PEERS' });
});

t.test(
  'what origins said is not there is not told with no origin left, whatever was proven before',
  async (t) => {
    const { keeper, origins, clock } = keeperOf(t);
    origins.has = { a: final(), b: undefined };
    await keeper.get(NAME);
    clock.nowMs = 20_000;
    origins.has = {};
    const { metainfo } = origins;
    origins.metainfo = () => Promise.reject(new CodedError('BLOB_UNKNOWN'));
    await t.rejects(keeper.get(NAME), { code: 'BLOB_UNKNOWN' });
    origins.metainfo = metainfo;
    origins.has = { a: 'silent', b: 'silent' };
    await t.rejects(keeper.get(NAME), { code: 'NO_PEERS' });
  },
);

t.test(
  'a link that is asked for is looked up again beside it: nobody waits, and a no counts when it must',
  async (t) => {
    const { keeper, origins, clock } = keeperOf(t);
    origins.has = { a: final() };
    await keeper.get(NAME);
    let lookUps = 0;
    const { word } = origins;
    let release = (): void => undefined;
    const gate = new Promise<void>((resolve) => {
      release = resolve;
    });
    origins.word = async (...asked) => {
      lookUps += 1;
      await gate;
      return await word(...asked);
    };
    clock.nowMs = 9_000;
    t.equal((await keeper.get(NAME)).metainfo.state, 'final', 'answered while the look-up hangs');
    await keeper.get(NAME);
    await until(() => lookUps === 1, 'it begins');
    await keeper.get(NAME);
    t.equal(lookUps, 1);
    release();
    await until(() => origins.asked.length === 2, 'looked up');
    clock.nowMs = 18_000;
    await until(
      async () => (await keeper.get(NAME)) !== undefined && lookUps === 2,
      'believed since, and due',
    );
    await until(() => origins.asked.length === 3, 'looked up once more');
    clock.nowMs = 26_900;
    origins.has = {};
    origins.metainfo = () => Promise.reject(new CodedError('BLOB_UNKNOWN'));
    await until(async () => lookUps === 3 || ((await keeper.get(NAME)) && false), 'a no beside it');
    clock.nowMs = 28_001;
    await t.rejects(keeper.get(NAME), { code: 'BLOB_UNKNOWN' });
  },
);

t.test('a link that was proven is looked up again by the word of one that has the blob', async (t) => {
  const { keeper, origins, clock } = keeperOf(t);
  origins.has = { a: final() };
  await keeper.get(NAME);
  origins.has = { a: final(), b: final() };
  clock.nowMs = 10_000;
  t.equal((await keeper.get(NAME)).metainfo.state, 'final');
  t.same(origins.asked, ['fetch a ranges', 'word a']);
  const other = { ...NAME, repository: parseRepositoryName('other') };
  await keeper.get(other);
  t.equal(origins.asked.at(-1), 'take a ranges', 'a link that was never proven');
  keeper.revoke([NAME]);
  await keeper.get(NAME);
  t.equal(origins.asked.at(-1), 'take a ranges', 'a link that was revoked');
});

t.test('who has to wait for a look-up that is put off has it begin at once', async (t) => {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const { keeper, origins, clock } = keeperOf(t);
  origins.has = { a: final(), b: final() };
  await time.settle(keeper.get(NAME));
  clock.nowMs = 9_990;
  await time.settle(keeper.get(NAME));
  t.notOk(origins.asked.includes('word a'), 'it is put off');
  clock.nowMs = 10_001;
  await time.settle(keeper.get(NAME));
  t.equal(time.elapsedMs, 0);
  t.equal(origins.asked.filter((one) => one === 'word a').length, 1);
});

t.test('who came to hold it, and who does no more, is known from the next look-up on', async (t) => {
  const { keeper, origins, clock } = keeperOf(t);
  const holders = async (): Promise<readonly string[]> => (await keeper.get(NAME)).originIds;
  origins.has = { a: final() };
  t.same(await holders(), ['a']);
  origins.has = { a: final(), b: final() };
  clock.nowMs = 9_000;
  await until(async () => (await holders()).length === 2, 'b has it too');
  for (const gone of [undefined, 'silent'] as const) {
    origins.has = { a: gone, b: final() };
    clock.nowMs += 10_000;
    t.same(await holders(), ['b'], String(gone));
    origins.has = { a: final(), b: final() };
    clock.nowMs += 10_000;
    t.same(new Set(await holders()), new Set(['a', 'b']));
  }
  t.same(
    origins.asked.filter((one) => one.startsWith('take')),
    ['take b ranges', 'take b ranges'],
  );
});

t.test('a holder with other bytes of the blob is told apart from one with the same', async (t) => {
  const log = new LogLines();
  const { keeper, origins, clock } = keeperOf(t, log.logger);
  origins.has = { a: final() };
  await keeper.get(NAME);
  origins.has = { a: Metainfo.final(DIGEST, 2 ** 20, Buffer.alloc(32, 2)) };
  clock.nowMs = 10_000;
  t.ok((await keeper.get(NAME)).metainfo.matches(0, HASH), 'nothing is taken over');
  t.ok(log.has(/different bytes of one blob/));
  t.same(origins.asked, ['fetch a ranges', 'word a']);
});

t.test('what a holder says of a link that was revoked meanwhile counts for nothing', async (t) => {
  const { keeper, origins, clock } = keeperOf(t);
  origins.has = { a: final() };
  await keeper.get(NAME);
  const { word } = origins;
  origins.word = async (...asked) => {
    const answer = await word(...asked);
    keeper.revoke([NAME]);
    return answer;
  };
  clock.nowMs = 10_000;
  await keeper.get(NAME);
  await keeper.get(NAME);
  t.same(origins.asked, ['fetch a ranges', 'word a', 'take a ranges']);
});

t.test('a bug is thrown, and not taken for the silence of origins', async (t) => {
  const { keeper, origins, clock } = keeperOf(t);
  origins.has = { a: final() };
  await keeper.get(NAME);
  clock.nowMs = 20_000;
  origins.word = () => Promise.reject(new TypeError('wrong code'));
  await t.rejects(keeper.get(NAME), TypeError);
  keeper.revoke([NAME]);
  origins.where = () => Promise.reject(new TypeError('wrong code'));
  await t.rejects(keeper.get(NAME), TypeError);
});
