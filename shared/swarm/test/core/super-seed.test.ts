import { Bitfield } from '@sepia/base/bitfield';
import t from 'tap';
import type { SwarmEffect } from '../../src/core/events.ts';
import { CORE_LIMITS } from '../../src/core/limits.ts';
import { SharedLine } from '../../src/core/line/shared-line.ts';
import type { Link } from '../../src/core/link.ts';
import { Chance } from '../../src/core/random.ts';
import { SuperSeed } from '../../src/core/super-seed.ts';
import { makeLink } from '../support/core.ts';

const PIECES = 8;
const limits = { ...CORE_LIMITS, freeLeechers: 0 };
/** How long a suggestion is thought to take before one was measured, ms. */
const GUESS_MS = 1_000;

function seeding(seed = 1, pieceCount = PIECES, shared = new SharedLine(0)) {
  const holders = new Uint16Array(pieceCount);
  const have = Bitfield.full(pieceCount);
  const superSeed = new SuperSeed({
    ...{ limits, chance: new Chance(seed), have, holders },
    line: shared.place(),
  });
  const links: Link[] = [];
  const peer = (): Link => {
    const id = links.length + 1;
    const link = makeLink({ id, peerId: String(id).padStart(40, '0'), pieceCount });
    links.push(link);
    return link;
  };
  const offer = (nowMs = 0): (readonly [link: number, index: number])[] => {
    const told: SwarmEffect[] = [];
    superSeed.offer(links, nowMs, (effect) => void told.push(effect));
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
  t.equal(gone.offers.size, 0);
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
  t.notOk(seed.admit(other, 0, links, GUESS_MS - 1));
  t.ok(seed.admit(other, 0, links, GUESS_MS), 'no peer has it');
  const third = peer();
  holders[0] = 1;
  t.notOk(seed.admit(third, 0, links, 0));
  t.notOk(seed.admit(third, 0, links, 3 * GUESS_MS - 1), 'two were given, and a peer has it');
  t.ok(seed.admit(third, 0, links, 3 * GUESS_MS));
});

t.test('where few download, an asker is left as long as a suggestion takes to find a piece', async (t) => {
  /** How long the second of so many peers is sent away, ms, once suggestions took 3 s each of late. */
  const sentAwayMs = (peers: number): number => {
    const { seed, links, peer, offer } = seeding(1, 400);
    const [taker, other] = Array.from({ length: peers }, peer) as [Link, Link];
    for (let round = 0; round < 60; round++)
      for (const [id, index] of offer(round * 3_000)) {
        const link = links[id - 1]!;
        link.has.add(index);
        seed.settle(link, index, (round + 1) * 3_000);
      }
    seed.admit(taker, 399, links, 0);
    for (let ms = 0; ms < 9_000; ms += 100) if (seed.admit(other, 399, links, ms)) return ms;
    return -1;
  };
  t.equal(sentAwayMs(2), 3_000);
  t.equal(sentAwayMs(limits.fewPeers + 1), limits.refusedMs, 'of many somebody has it sooner');
});

t.test('swarms of one origin share what is suggested at once', async (t) => {
  const shared = new SharedLine(0);
  const others = Array.from({ length: 3 }, () => shared.place());
  const { peer, offer } = seeding(1, 400, shared);
  for (let peers = 0; peers < limits.fewPeers; peers++) peer();
  for (const other of others) other.suggested.note(1);
  t.equal(offer().length, Math.max(limits.suggestionsLeast, Math.ceil(limits.openSuggestions / 4)));
  for (const other of others) other.suggested.note(0);
  t.equal(offer().length, limits.openSuggestions - 2, 'alone again it has all of them');
});

t.test(
  'suggested is what lies a little way ahead of the peer that got furthest, only so much of it at once',
  async (t) => {
    const { seed, peer, offer } = seeding(3, 400);
    const peers = Array.from({ length: limits.fewPeers }, peer);
    const far = peers[5]!;
    const taken = new Set<number>();
    for (let round = 0, front = 0; round < 10; round++, front += 30) {
      for (let index = 0; index < front; index++) far.has.add(index);
      const offers = offer();
      t.equal(offers.length, limits.openSuggestions);
      for (const [link, index] of offers) {
        t.ok(index >= front && index < front + limits.seedAhead, `${index} from ${front} on`);
        t.notOk(taken.has(index), 'to one peer only');
        taken.add(index);
        seed.settle(peers[link - 1]!, index, 0);
      }
    }
  },
);

t.test('where all that lies ahead of the foremost is out, the next that is not is suggested', async (t) => {
  const { seed, peer, offer } = seeding(1, 400);
  const idle = peer();
  for (let index = 0; index < 100; index++) {
    idle.has.add(index);
    seed.settle(idle, index, 0);
  }
  const others = [peer(), peer()];
  const taken = new Set<number>();
  for (let nowMs = 0; nowMs < 400_000; nowMs += 1_000) {
    for (const [link, index] of offer(nowMs)) {
      if (link === idle.id) continue;
      const isNear = index < 100 + limits.seedAhead;
      t.ok(isNear || taken.size >= limits.seedAhead - limits.suggestions, 'what is near comes first');
      taken.add(index);
      others[link - 2]!.has.add(index);
      seed.settle(others[link - 2]!, index, nowMs);
    }
  }
  t.equal(taken.size, 300, 'whoever holds the first hundred needs no more, and holds nobody up');
});

t.test('many peers are suggested as much as each may have', async (t) => {
  const { peer, offer } = seeding(3, 400);
  const peers = Array.from({ length: limits.fewPeers + 1 }, peer);
  t.equal(offer().length, limits.suggestions * peers.length);
});

t.test(
  'what a slow peer was suggested goes to another as well; it gets no more until it has that',
  async (t) => {
    const { seed, peer, offer } = seeding(1, 400);
    const [slow, quick] = [peer(), peer()];
    const first = offer();
    const ofSlow = first.filter(([link]) => link === slow.id).map(([, index]) => index);
    t.equal(ofSlow.length, limits.suggestions);
    t.same(offer(500), []);
    const take = (link: Link, index: number, nowMs: number): void => {
      link.has.add(index);
      seed.settle(link, index, nowMs);
    };
    for (const [link, index] of first) if (link === quick.id) take(quick, index, 500);
    t.same(
      offer(500).map(([link]) => link),
      [quick.id, quick.id],
    );
    const given = new Set<number>();
    for (let nowMs = 1_000; nowMs < 60_000; nowMs += 500) {
      for (const index of [...quick.offers.keys()]) {
        quick.has.add(index);
        seed.settle(quick, index, nowMs);
      }
      for (const [link, index] of offer(nowMs)) {
        t.equal(link, quick.id);
        t.notOk(given.has(index), 'a piece goes to a second peer, to no third');
        given.add(index);
      }
    }
    for (const index of ofSlow) t.ok(given.has(index), `${index} was suggested to the quick one too`);
    for (const index of ofSlow) take(slow, index, 60_000);
    t.same(
      offer(60_000).map(([link]) => link),
      [slow.id, slow.id],
      'it has them now',
    );
  },
);

t.test('where all are slow, nobody is late', async (t) => {
  const { seed, peer, offer } = seeding(1, 400);
  const peers = [peer(), peer()];
  const taken = new Map<number, number>();
  for (let nowMs = 0; nowMs < 200_000; nowMs += 4_000) {
    for (const link of peers)
      for (const index of [...link.offers.keys()]) {
        for (const one of peers) one.has.add(index);
        seed.settle(link, index, nowMs);
      }
    for (const [, index] of offer(nowMs)) taken.set(index, (taken.get(index) ?? 0) + 1);
    offer(nowMs + 3_000);
  }
  const twice = [...taken.values()].filter((times) => times > 1).length;
  t.ok(
    taken.size > 100 && twice <= 40,
    `${twice} of ${taken.size} twice, before it is known how long they take`,
  );
  t.equal([...taken].slice(-50).filter(([, times]) => times > 1).length, 0);
});

t.test('who got from its peers what it was refused is heard as before', async (t) => {
  const { seed, links, peer } = seeding(1, 400);
  const [one, other] = [peer(), peer()];
  for (let index = 0; index <= limits.sample; index++) {
    seed.admit(one, index, links, 0);
    t.notOk(seed.admit(other, index, links, 0), 'it is out');
    if (index === limits.sample) break;
    other.has.add(index);
    seed.settle(other, index, 0);
  }
  t.ok(seed.admit(other, limits.sample, links, GUESS_MS), 'no peer brought it');
});

t.test('of more refusals than are remembered those are forgotten that nobody comes back for', async (t) => {
  const { seed, links, peer } = seeding(1, 400);
  const [one, other] = [peer(), peer()];
  for (let index = 0; index <= limits.sample; index++) {
    seed.admit(one, index, links, 0);
    t.notOk(seed.admit(other, index, links, 0), 'it is out');
  }
  t.equal(other.turnedAway.size, limits.sample);
  const lateMs = 60 * limits.refusedMs;
  t.notOk(seed.admit(other, limits.sample, links, lateMs), 'it was one too many');
  t.equal(other.turnedAway.size, limits.sample);
  t.ok(seed.admit(other, limits.sample, links, lateMs + GUESS_MS));
  t.notOk(seed.admit(other, 0, links, lateMs + GUESS_MS), 'the oldest gave way');
});

t.test('who asks in turn for more than is remembered is given some of it', async (t) => {
  const { seed, links, peer } = seeding(1, 400);
  const [one, other] = [peer(), peer()];
  for (let index = 0; index < 400; index++) seed.admit(one, index, links, 0);
  let given = 0;
  for (let round = 0; round < 4; round++)
    for (let index = 0; index < 400; index++)
      if (seed.admit(other, index, links, round * limits.refusedMs)) given += 1;
  t.ok(given >= limits.sample, `${given}`);
});
