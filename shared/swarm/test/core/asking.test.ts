import t from 'tap';
import type { Link } from '../../src/core/link.ts';
import { makeAsking, makeLink } from '../support/core.ts';

const PIECES = 16;
/** All links are up since then, and nothing came over a wire since. */
const NOW_MS = 60_000;

interface Wire {
  readonly zone?: string;
  readonly origin?: boolean;
  readonly isStranger?: boolean;
  readonly has?: readonly number[];
}

/** What rules look at, and links to be asked. */
function scene(over: { readonly farShare?: number; readonly wireByteMs?: number } = {}) {
  const parts = makeAsking(PIECES, { wireByteMs: NOW_MS, ...over });
  const { links, pieces } = parts;
  const add = (over: Parameters<typeof makeLink>[0]): Link => {
    const link = makeLink({ id: links.size + 1, nowMs: NOW_MS, pieceCount: PIECES, ...over });
    links.set(link.id, link);
    return link;
  };
  const wire = ({ zone = 'a', origin = false, isStranger = false, has = [] }: Wire): Link => {
    const peerId = String(links.size + 1).padStart(40, '1');
    const link = add({ peerId, origin, zone, isStranger });
    if (isStranger) link.choke(false);
    for (const index of has) if (link.has.add(index)) pieces.gained(link, index);
    return link;
  };
  const http = (): Link =>
    add({
      kind: 'http',
      peerId: 'http',
      origin: true,
      zone: 'a',
      httpHas: () => true,
    });
  const fetch = (link: Link, index: number): void => {
    link.begin(index, NOW_MS);
    pieces.begin(link.id, index);
  };
  return { ...parts, wire, http, fetch };
}

t.test('the soonest: a member before an origin, an origin before HTTP, and a stranger last', async (t) => {
  const { asking, wire, links } = scene({ wireByteMs: 0 });
  const stranger = wire({ isStranger: true, has: [0] });
  t.equal(asking.soonest(0, NOW_MS, false), stranger, 'where nobody else has it');
  const origin = wire({ origin: true, has: [0] });
  t.equal(asking.soonest(0, NOW_MS, false), origin);
  const peer = wire({ has: [0] });
  t.equal(asking.soonest(0, NOW_MS, false), peer);
  links.delete(peer.id);
  links.delete(origin.id);
  t.equal(asking.soonest(0, NOW_MS, false), stranger);
});

t.test('an HTTP source with as many requests as it may have is not the soonest', async (t) => {
  const { asking, http, fetch, limits } = scene();
  const source = http();
  for (let index = 1; index < limits.httpDepth; index++) fetch(source, index);
  t.equal(asking.soonest(0, NOW_MS, false), source);
  fetch(source, limits.httpDepth);
  t.equal(asking.soonest(0, NOW_MS, false), undefined);
});

t.test('an origin that brings something is spared what peers have', async (t) => {
  const { asking, wire, fetch } = scene();
  const origin = wire({ origin: true, has: [0, 1, 2, 3] });
  wire({ has: [1] });
  t.ok(asking.mayAsk(origin, 1, false, NOW_MS), 'nothing moves: whoever has it is asked');
  origin.begin(3, NOW_MS);
  t.ok(
    asking.mayAsk(origin, 1, false, NOW_MS),
    'what it was asked for is nobody’s wish any more, but a peer has it',
  );
  t.notOk(asking.mayAsk(origin, 0, false, NOW_MS), 'and what no peer has waits until that is over');
  origin.end(3);
  fetch(origin, 3);
  t.notOk(asking.mayAsk(origin, 0, false, NOW_MS), 'one piece of an origin at a time, where there are peers');
  t.notOk(asking.mayAsk(origin, 1, false, NOW_MS));
});

t.test(
  'with something on its way from peers, a free origin is asked for what no peer can serve',
  async (t) => {
    const { asking, wire, fetch } = scene();
    const origin = wire({ origin: true, has: [0, 1, 2] });
    const peer = wire({ has: [1, 2] });
    fetch(peer, 2);
    t.ok(asking.mayAsk(origin, 0, false, NOW_MS));
    t.notOk(asking.mayAsk(origin, 1, false, NOW_MS), 'a peer has it');
    peer.stalled = true;
    t.ok(asking.mayAsk(origin, 1, false, NOW_MS), 'but serves nothing now');
  },
);

t.test('a reader that waited for long gets its piece of an origin, though peers have it', async (t) => {
  const { asking, wire, readers, limits } = scene();
  const origin = wire({ origin: true, has: [0] });
  wire({ has: [0] });
  readers.set(1, 0, PIECES - 1, NOW_MS);
  t.notOk(asking.mayAsk(origin, 0, true, NOW_MS + limits.readerHttpMs - 1));
  t.ok(asking.mayAsk(origin, 0, true, NOW_MS + limits.readerHttpMs));
});

t.test('HTTP brings what wires do not: where no member has it, or all that have it are silent', async (t) => {
  const { asking, wire, http, limits } = scene();
  const source = http();
  const [peer, other] = [wire({ has: [0] }), wire({})];
  const quietMs = NOW_MS + limits.stallMs;
  t.notOk(asking.mayAsk(source, 1, false, quietMs - 1), 'wires bring something');
  t.ok(asking.mayAsk(source, 1, false, quietMs), 'no wire has it');
  t.notOk(asking.mayAsk(source, 0, false, quietMs), 'one has it');
  peer.stalled = true;
  t.ok(asking.mayAsk(source, 0, false, quietMs), 'and is silent');
  other.stalled = true;
  t.ok(asking.mayAsk(source, 0, false, NOW_MS), 'no wire is left');
});

t.test('across zones only within the share, or where nothing else moves', async (t) => {
  const still = scene({ farShare: 0.1, wireByteMs: 0 });
  const far = still.wire({ zone: 'b', has: [...Array(PIECES).keys()] });
  for (let index = 0; index < 5; index++) {
    t.ok(still.asking.mayAsk(far, 8, false, NOW_MS), 'alone in its zone it asks whom there is');
    still.fetch(far, index);
  }
  still.wire({ zone: 'b', isStranger: true });
  t.ok(still.asking.mayAsk(far, 8, false, NOW_MS), 'a stranger is nobody of a zone');
  still.wire({ zone: 'a' });
  t.notOk(still.asking.mayAsk(far, 8, false, NOW_MS), 'the share is on its way');
  t.ok(still.asking.mayAsk(far, 8, true, NOW_MS), 'a reader that waits crosses');
});

t.test(
  'what an origin suggests is asked of it until a peer has it; of zones apart, one of the own zone',
  async (t) => {
    const others = Array.from({ length: PIECES }, (_, index) => index);
    for (const farShare of [1, 0.5]) {
      const { asking, wire, fetch, pieces } = scene({ farShare });
      const origin = wire({ origin: true, has: others });
      const [near, far] = [wire({ has: [1] }), wire({ zone: 'b', has: [1] })];
      fetch(near, 1);
      fetch(origin, 2);
      t.notOk(asking.mayAsk(origin, 0, false, NOW_MS), 'it is busy with another');
      origin.suggested.add(0);
      t.ok(asking.mayAsk(origin, 0, false, NOW_MS));
      far.has.add(0);
      pieces.gained(far, 0);
      t.equal(asking.mayAsk(origin, 0, false, NOW_MS), farShare < 1, 'a peer of another zone has it');
      near.has.add(0);
      pieces.gained(near, 0);
      t.notOk(asking.mayAsk(origin, 0, false, NOW_MS));
    }
  },
);
