import t from 'tap';
import type { SwarmEffect } from '../../src/core/events.ts';
import { Fetching } from '../../src/core/fetching.ts';
import { CORE_LIMITS } from '../../src/core/limits.ts';
import { SharedLine } from '../../src/core/line/shared-line.ts';
import type { Link } from '../../src/core/link.ts';
import { type PickView, pickPiece } from '../../src/core/picker.ts';
import { Chance } from '../../src/core/random.ts';
import { all, makeAsking, makeLink, of, start } from '../support/core.ts';

const PIECES = 6;

function peer(id: number, has: readonly number[]): Link {
  const link = makeLink({ id, peerId: String(id).padStart(40, '0'), zone: 'a', pieceCount: PIECES });
  for (const index of has) link.has.add(index);
  return link;
}

function scene() {
  const parts = makeAsking(PIECES);
  const { links, pieces } = parts;
  const shared = new SharedLine(0);
  const line = shared.place();
  const { rate } = line;
  const fetching = new Fetching({ ...parts, line });
  const hedge = (nowMs: number): SwarmEffect[] => {
    const told: SwarmEffect[] = [];
    fetching.hedge(nowMs, (effect) => void told.push(effect));
    return told;
  };
  const schedule = (nowMs: number): SwarmEffect[] => {
    const told: SwarmEffect[] = [];
    fetching.schedule(nowMs, (effect) => void told.push(effect), false);
    return told;
  };
  /** `link` was asked for the piece at 0 ms. */
  const ask = (link: Link, index: number): void => {
    link.begin(index, 0);
    pieces.begin(link.id, index);
  };
  /** A link that has those pieces, and was asked for some of them. */
  const add = (id: number, has: readonly number[], ...asked: readonly number[]): Link => {
    const link = peer(id, has);
    links.set(id, link);
    for (const index of asked) ask(link, index);
    return link;
  };
  return { ...parts, rate, shared, fetching, add, ask, hedge, schedule };
}

t.test('a piece that is asked of links that are gone gets another source', async (t) => {
  const { add, pieces, hedge } = scene();
  add(2, [0]);
  pieces.begin(1, 0);
  t.same(hedge(0), [{ type: 'fetch', link: 2, index: 0 }]);
  t.same(hedge(0), [], 'and no third');
});

t.test('what a reader waits for is asked of a second wire too, where that is much sooner', async (t) => {
  const { readerLateMs } = CORE_LIMITS;
  /** After `readerLateMs` `gotBytes` of the piece came, and a second wire brings `rate` bytes a second. */
  const late = (gotBytes: number, rate: number, isRead = true): SwarmEffect[] => {
    const { add, readers, hedge } = scene();
    const [slow, other] = [add(1, [0], 0), add(2, [0, 1], 1)];
    if (isRead) readers.set(1, 0, PIECES - 1, 0);
    for (let ms = 100; ms <= readerLateMs; ms += 100) {
      slow.onBytes(0, (gotBytes * 100) / readerLateMs, ms);
      other.onBytes(1, rate / 10, ms);
    }
    t.same(hedge(readerLateMs - 1), [], 'it may still come');
    return hedge(readerLateMs);
  };
  t.same(late(2 ** 17, 20e6), [{ type: 'fetch', link: 2, index: 0 }]);
  t.same(late(2 ** 17, 0.4e6), [], 'the other is no sooner');
  t.same(late(2 ** 19, 5e6), [], 'it is nearly here');
  t.same(late(2 ** 17, 20e6, false), [], 'nobody waits');
});

t.test(
  'where the own line is what is slow, nothing that a reader waits for is asked for twice',
  async (t) => {
    const { add, readers, rate, hedge } = scene();
    const slow = add(1, [0, 1], 0, 1);
    add(2, [0, 1]);
    readers.set(1, 0, PIECES - 1, 0);
    const bytesPerSec = 2 ** 17;
    // It needs 16 s for both pieces.
    const until = (fromMs: number, toMs: number): void => {
      for (let ms = fromMs + 500; ms <= toMs; ms += 500) {
        rate.add(bytesPerSec / 2, ms);
        for (const index of [0, 1])
          slow.onBytes(index, index === 0 ? 2 ** 12 : bytesPerSec / 2 - 2 ** 12, ms);
      }
    };
    until(0, 31_500);
    t.same(hedge(31_500), [], 'all that was asked for takes so long');
    until(31_500, 32_000);
    t.same(hedge(32_000), [{ type: 'fetch', link: 2, index: 0 }], 'twice as long: it is the peer');
  },
);

t.test(
  'a wire that waits its turn on a slow line of our own gets no second source before the line had time',
  async (t) => {
    const { add, rate, hedge } = scene();
    const one = add(1, [0], 0);
    add(2, [1], 1);
    add(3, [0, 1, 2, 3]);
    // 256 KiB a second, all from the first: 8 s for both pieces.
    for (let ms = 500; ms <= 8_000; ms += 500) {
      rate.add(2 ** 17, ms);
      one.onBytes(0, 2 ** 12, ms);
    }
    t.same(hedge(7_999), [], 'it may be next');
    t.same(hedge(8_000), [{ type: 'fetch', link: 3, index: 1 }]);
  },
);

t.test('where nothing at all comes on a slow line it is not the line', async (t) => {
  const { add, rate, hedge } = scene();
  const [one, two] = [add(1, [0, 1, 2], 0, 1, 2), add(2, [3, 4], 3, 4)];
  add(3, [0, 1, 2, 3, 4, 5]);
  // 512 KiB a second: 10 s for all five; then both hang.
  for (let ms = 500; ms <= 1_000; ms += 500) {
    rate.add(2 ** 18, ms);
    for (const index of [0, 1, 2, 3, 4]) (index < 3 ? one : two).onBytes(index, 2 ** 16, ms);
  }
  t.same(hedge(6_999), [], 'the line could not have brought three');
  t.same(hedge(7_000)[0], { type: 'fetch', link: 3, index: 0 }, 'another source is asked');
});

t.test('where one that was quick hangs, a slow one beside it does not make the line slow', async (t) => {
  const { add, rate, hedge } = scene();
  const [quick, slow] = [add(1, [0], 0), add(2, [1], 1)];
  add(3, [0, 1, 2, 3]);
  // 10 MiB a second, then a tenth of one.
  for (let ms = 200; ms <= 1_000; ms += 200) {
    rate.add(2 ** 21, ms);
    quick.onBytes(0, 2 ** 12, ms);
  }
  const until = (fromMs: number, toMs: number): void => {
    for (let ms = fromMs; ms <= toMs; ms += 200) {
      rate.add(2 ** 14, ms);
      slow.onBytes(1, 2 ** 14, ms);
    }
  };
  until(1_200, 1_800);
  t.same(hedge(1_999), []);
  until(2_000, 2_000);
  t.same(hedge(2_000), [{ type: 'fetch', link: 3, index: 0 }]);
});

/** All four pieces are wanted and may be asked for; the last is the least rare. */
const VIEW: PickView = {
  limits: CORE_LIMITS,
  chance: new Chance(1),
  wanted: [0, 1, 2, 3],
  isWanted: () => true,
  rarity: (index) => index,
  isAlone: false,
  peers: 2,
  isReading: false,
  readers: [],
  mayAsk: () => true,
  mayAskNothing: () => false,
};

t.test('a suggestion is taken first, and forgotten once the piece is no longer wanted', async (t) => {
  const link = peer(1, [0, 1, 2, 3]);
  link.suggested.add(0).add(2);
  const view = { ...VIEW, wanted: [1, 2, 3], isWanted: (index: number) => index !== 0 };
  t.equal(pickPiece(view, link), 2);
  t.same([...link.suggested], [2], 'whoever asks for it takes it out');
  link.suggested.clear();
  t.equal(pickPiece(view, link), 1, 'else the rarest');
});

t.test('what a reader takes next comes before what is rarer', async (t) => {
  const link = peer(1, [0, 1, 2, 3]);
  const view: PickView = {
    ...VIEW,
    limits: { ...CORE_LIMITS, readerWindow: 2 },
    rarity: (index) => 9 - index,
    readers: [1],
    mayAsk: (_, index) => index !== 2,
  };
  t.equal(pickPiece(view, link), 1);
  t.equal(pickPiece({ ...view, readers: [2] }, link), 3, 'the rarest of its window');
  t.equal(pickPiece({ ...view, readers: [2], mayAsk: (_, index) => index < 2 }, link), 1, 'then of all');
});

t.test('what peers have is asked of them, not of an origin, as long as each of them serves', async (t) => {
  const all = [0, 1, 2, 3];
  const asked = (isRefused: boolean): number[] => {
    const { links, pieces, schedule, ask } = scene();
    const origin = makeLink({ id: 1, peerId: 'o', origin: true, zone: 'a', pieceCount: PIECES });
    const [one, other] = [peer(2, all), peer(3, all)];
    for (const link of [origin, one, other]) {
      links.set(link.id, link);
      for (const index of all) {
        link.has.add(index);
        pieces.gained(link, index);
      }
    }
    ask(one, 0);
    if (isRefused) for (const link of [one, other]) for (const index of all) link.refuse(index, 1_000);
    return schedule(0).flatMap((effect) => (effect.type === 'fetch' ? [effect.link] : []));
  };
  t.same([...new Set(asked(false))].toSorted(), [2, 3]);
  t.same([...new Set(asked(true))], [1], 'they refuse');
});

t.test('a peer of which other swarms wait for much is asked last', async (t) => {
  const { add, shared, schedule } = scene();
  const [busy, idle] = [add(1, [0, 1]), add(2, [0, 1])];
  const other = shared.place();
  other.asked.note(3);
  other.senders.add(busy.peerId, 3);
  const asked = schedule(0).map((effect) => (effect as { link: number }).link);
  t.equal(asked[0], idle.id);
});

t.test('what comes to other swarms over our line is counted before a piece is asked for twice', async (t) => {
  /** When a silent piece gets its second source, ms, beside so many pieces of another swarm. */
  const secondAt = (others: number): number => {
    const { add, shared, hedge } = scene();
    add(1, [0], 0);
    add(2, [0]);
    const other = shared.place();
    other.asked.note(others);
    // 4 MiB a second, all of them theirs.
    for (let ms = 100; ms <= 20_000; ms += 100) {
      other.rate.add(2 ** 22 / 10, ms);
      if (hedge(ms).length > 0) return ms;
    }
    return -1;
  };
  const { stallMs } = CORE_LIMITS;
  t.equal(secondAt(0), stallMs, 'nobody else waits');
  t.equal(secondAt(12), 6_300, 'what the line needs for theirs, 3 s, and for all, 3.25 s');
});

t.test('on a line that many keep busy for long a reader’s next piece waits for its turn', async (t) => {
  const shared = new SharedLine(0);
  const others = Array.from({ length: 7 }, () => shared.place());
  for (const { asked } of others) asked.note(1);
  others[0]!.rate.add(2 ** 20, 1_000);
  const one = start({ line: shared.place() });
  one.wire('a', all());
  one.wire('b', all());
  const head = (index: number, atMs: number): number =>
    of(one.tell({ type: 'reader', reader: 0, index }, atMs), 'fetch').length;
  const [first, second] = all().filter(
    (index) => ![...one.core.links.values()].some(({ fetches }) => fetches.has(index)),
  );
  t.equal(head(first!, 1_000), 1, 'its first piece is asked for at once');
  t.equal(head(second!, 1_100), 0);
  const { readerLateMs, tickMs } = CORE_LIMITS;
  const late = one.tell({ type: 'timer', key: 'tick' }, 1_100 + readerLateMs + tickMs);
  t.same(
    of(late, 'fetch').map(({ index }) => index),
    [second],
  );
});

t.test('a swarm that ends leaves its share of the line to others', async (t) => {
  const shared = new SharedLine(0);
  const one = start({ line: shared.place() });
  const { link } = one.wire('a', all());
  const other = shared.place();
  t.equal(other.asked.swarms(), 2);
  t.ok(other.senders.of('a') > 0);
  t.equal(other.senders.of('a'), one.core.links.get(link)!.fetches.size);
  one.core.leave();
  t.equal(other.asked.swarms(), 1);
  t.equal(other.senders.of('a'), 0);
});
