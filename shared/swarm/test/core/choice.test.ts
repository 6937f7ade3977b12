import { Bitfield } from '@sepia/base/bitfield';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { Asking } from '../../src/core/asking.ts';
import { Bans } from '../../src/core/bans.ts';
import { Dialling } from '../../src/core/dialling.ts';
import { CORE_LIMITS } from '../../src/core/limits.ts';
import { LinkTable } from '../../src/core/link-table.ts';
import { type PickView, pickPiece } from '../../src/core/picker.ts';
import { PieceTable } from '../../src/core/pieces.ts';
import { Chance } from '../../src/core/random.ts';
import { Readers } from '../../src/core/readers.ts';
import { ZoneMeter } from '../../src/core/zone-meter.ts';
import { makeLink } from '../support/core.ts';

const PIECES = 24;
const NOW_MS = 1_000;
const limits = { ...CORE_LIMITS, sample: 6, readerWindow: 4, fewPeers: 2 };

const LINK = fc.record({
  kind: fc.constantFrom('peer', 'peer', 'peer', 'origin', 'stranger', 'http'),
  has: fc.array(fc.nat(PIECES - 1), { maxLength: PIECES }),
  isStalled: fc.boolean(),
  refused: fc.array(fc.tuple(fc.nat(PIECES - 1), fc.constantFrom(NOW_MS - 1, NOW_MS + 1)), { maxLength: 2 }),
  suggested: fc.array(fc.nat(PIECES - 1), { maxLength: 2 }),
  asked: fc.option(fc.nat(PIECES - 1), { nil: undefined }),
});
const SCENE = fc.record({
  links: fc.array(LINK, { minLength: 1, maxLength: 5 }),
  reader: fc.option(fc.nat(PIECES - 1), { nil: undefined }),
  isQuiet: fc.boolean(),
  seed: fc.nat(),
});
type Scene = typeof SCENE extends fc.Arbitrary<infer T> ? T : never;

/** What is chosen for each link in turn, and what chance comes after; `isQuick`: as the core looks at it, else piece by piece. */
function choices({ links: all, reader, isQuiet, seed }: Scene, isQuick: boolean): number[] {
  const chance = new Chance(seed);
  const links = new LinkTable();
  const readers = new Readers(() => true);
  if (reader !== undefined) readers.set(1, reader, PIECES - 1, 0);
  const pieces = new PieceTable({
    ...{ pieceCount: PIECES, have: new Bitfield(PIECES) },
    ...{ knows: () => true, covered: () => true },
  });
  all.forEach(({ kind, has, isStalled, refused, suggested, asked }, id) => {
    const isHttp = kind === 'http';
    const link = makeLink({
      ...{ id, kind: isHttp ? 'http' : 'wire', peerId: `p${id}`, zone: 'a', pieceCount: PIECES },
      ...{ origin: isHttp || kind === 'origin', isStranger: kind === 'stranger' },
      ...(isHttp ? { httpHas: () => true } : {}),
    });
    links.set(id, link);
    if (!isHttp) for (const index of has) if (link.has.add(index)) pieces.gained(link, index);
    link.choke(false);
    link.stalled = isStalled && !isQuiet;
    if (!isQuiet || kind === 'origin') for (const [index, untilMs] of refused) link.refuse(index, untilMs);
    for (const index of suggested) link.suggested.add(index);
    if (asked === undefined || !link.canServe(asked, NOW_MS)) return;
    link.begin(asked, NOW_MS);
    pieces.begin(id, asked);
  });
  const dialling = new Dialling({ limits, chance, ownId: 'me', zone: 'a', bans: new Bans() });
  const asking = new Asking({
    ...{ limits, zone: 'a', origin: false, links, pieces, readers, dialling },
    ...{ zones: new ZoneMeter(1), wireByteMs: () => NOW_MS },
  });
  const areSure = (): boolean => asking.arePeersSure(NOW_MS);
  const view: PickView = {
    limits,
    chance,
    wanted: pieces.wanted.list,
    isWanted: (index) => pieces.wanted.has(index),
    rarity: (index) => pieces.rarity(index),
    isAlone: asking.isAlone(),
    peers: asking.peerCount(),
    isReading: false,
    readers: [...readers.values()].map(({ index }) => index),
    mayAsk: (link, index, urgent) =>
      asking.mayAsk(link, index, urgent, NOW_MS, isQuick ? areSure : undefined),
    mayAskNothing: (link) => isQuick && asking.mayAskNothing(link, areSure),
  };
  const chosen: number[] = [];
  for (const link of links.values()) {
    const index = pickPiece(view, link);
    chosen.push(index, chance.below(2 ** 20));
    if (index < 0) continue;
    link.begin(index, NOW_MS);
    pieces.begin(link.id, index);
  }
  return chosen;
}

t.test('a quick look at all pieces at once chooses what looking at each of them does', async (t) => {
  let found = 0;
  let none = 0;
  fc.assert(
    fc.property(SCENE, (scene) => {
      const quick = choices(scene, true);
      for (let at = 0; at < quick.length; at += 2)
        if (quick[at]! < 0) none += 1;
        else found += 1;
      return quick.join() === choices(scene, false).join();
    }),
    { numRuns: 1_000 },
  );
  t.ok(found > 100 && none > 100, `${found} choices, ${none} times nothing`);
});
