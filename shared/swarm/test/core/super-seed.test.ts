import { Bitfield } from '@sepia/base/bitfield';
import t from 'tap';
import type { SwarmEffect } from '../../src/core/events.ts';
import { CORE_LIMITS } from '../../src/core/limits.ts';
import type { Link } from '../../src/core/link.ts';
import { Chance } from '../../src/core/random.ts';
import { SuperSeed } from '../../src/core/super-seed.ts';
import { makeLink } from '../support/core.ts';

const PIECES = 8;
const limits = { ...CORE_LIMITS, freeLeechers: 0 };

function seeding(seed = 1) {
  const holders = new Uint16Array(PIECES);
  const have = new Bitfield(PIECES);
  for (let index = 0; index < PIECES; index++) have.add(index);
  const superSeed = new SuperSeed({ limits, chance: new Chance(seed), have, holders });
  const links: Link[] = [];
  const peer = (): Link => {
    const id = links.length + 1;
    const link = makeLink({ id, peerId: String(id).padStart(40, '0'), pieceCount: PIECES });
    links.push(link);
    return link;
  };
  const offer = (): (readonly [link: number, index: number])[] => {
    const told: SwarmEffect[] = [];
    superSeed.offer(links, (effect) => void told.push(effect));
    return told.flatMap((one) => (one.type === 'sendSuggest' ? [[one.link, one.index] as const] : []));
  };
  return { seed: superSeed, holders, links, peer, offer };
}

t.test('whoever was given least is offered first; those that are alike draw lots', async (t) => {
  const firsts = new Set<number>();
  for (let seed = 1; seed <= 40; seed++) {
    const { peer, offer } = seeding(seed);
    const [one, two, three] = [peer(), peer(), peer()];
    one.offered = 5;
    two.offered = 3;
    three.offered = 3;
    const offers = offer();
    t.same(
      [2, 3].map((id) => offers.slice(0, 4).filter(([link]) => link === id).length),
      [2, 2],
      'the two that had less, as much as one may be offered',
    );
    t.same(
      offers.slice(4).map(([link]) => link),
      [1, 1],
    );
    firsts.add(offers[0]![0]);
  }
  t.same([...firsts].toSorted(), [2, 3]);
});

t.test('what a lost peer was offered goes to another, unless somebody has it by then', async (t) => {
  const { seed, holders, links, peer, offer } = seeding();
  peer();
  const [first, second] = offer().map(([, index]) => index) as [number, number];
  holders[first] = 1;
  const gone = links.pop()!;
  seed.onDown(gone);
  t.same([...gone.offers], []);
  const offered = new Set<number>();
  for (let round = 0; round < PIECES; round++) {
    const link = peer();
    for (const [, index] of offer()) offered.add(index);
    link.has.addAll(Bitfield.full(PIECES));
  }
  t.ok(offered.has(second));
  t.notOk(offered.has(first), 'it spreads without us');
});

t.test('the more copies are out, the longer an asker is sent to the peers', async (t) => {
  const { seed, holders, links, peer } = seeding();
  const [one, other] = [peer(), peer()];
  t.ok(seed.admit(one, 0, links, 0), 'the first copy');
  t.notOk(seed.admit(other, 0, links, 0));
  t.notOk(seed.admit(other, 0, links, limits.refusedMs - 1));
  t.ok(seed.admit(other, 0, links, limits.refusedMs), 'no peer has it');
  const third = peer();
  holders[0] = 1;
  t.notOk(seed.admit(third, 0, links, 0));
  t.notOk(seed.admit(third, 0, links, 3 * limits.refusedMs - 1), 'two were given, and a peer has it');
  t.ok(seed.admit(third, 0, links, 3 * limits.refusedMs));
});
