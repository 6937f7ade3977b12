import { Bitfield } from '@sepia/base/bitfield';
import t from 'tap';
import { Bans } from '../../src/core/bans.ts';
import type { SwarmEffect } from '../../src/core/events.ts';
import { all, of, PIECES, start } from '../support/core.ts';

t.test('asks for rare pieces first', async (t) => {
  const { wire } = start({ limits: { depthMin: 1 } });
  wire('a', all().slice(0, 39));
  wire('b', all().slice(0, 39));
  t.strictSame(
    of(wire('c', all()).effects, 'fetch').map((fetch) => fetch.index),
    [39],
  );
});

t.test('pieces in front of a reader come first', async (t) => {
  const { tell, wire } = start();
  tell({ type: 'reader', reader: 0, index: 17 });
  const fetched = of(wire('a', all()).effects, 'fetch').map((fetch) => fetch.index);
  t.ok(fetched.includes(17) && fetched.length > 1 && fetched.every((index) => index >= 17), fetched.join());
});

t.test('who is alone takes pieces as they are read; who is not leaves some to others', async (t) => {
  const near = (events: { peers: boolean }): boolean => {
    const { tell, wire } = start({ limits: { depthMin: 6 } });
    tell({ type: 'reader', reader: 0, index: 17 });
    const known = { peerId: 'peer', addresses: ['10.0.0.2:1'], origin: false, zone: 'z1' };
    if (events.peers) tell({ type: 'peers', peers: [known] });
    const { link } = wire('origin', [], { origin: true });
    tell({ type: 'suggested', link, index: 3 });
    const fetched = of(tell({ type: 'bitfield', link, indexes: all() }), 'fetch').map(({ index }) => index);
    return fetched.join() === '17,18,19,20,21,22';
  };
  t.ok(near({ peers: false }));
  t.notOk(near({ peers: true }));
});

t.test('never asks for a piece whose hash is not known, then does', async (t) => {
  const known = new Set([3]);
  const { tell, wire } = start({ knows: (index) => known.has(index) });
  t.strictSame(
    of(wire('a', all()).effects, 'fetch').map((fetch) => fetch.index),
    [3],
  );
  known.add(9);
  t.strictSame(
    of(tell({ type: 'hashes' }), 'fetch').map((fetch) => fetch.index),
    [9],
  );
});

t.test('a source without a byte for 1 s is doubled by another within 1.5 s', async (t) => {
  const { tell, wire } = start({ limits: { depthMin: 1 } });
  tell({ type: 'reader', reader: 0, index: 0 });
  const first = wire('a', [0]);
  const second = wire('b', [0]);
  t.equal(of(first.effects, 'fetch')[0]?.index, 0);
  let hedge: number | undefined;
  for (let atMs = 250; hedge === undefined && atMs <= 2_000; atMs += 250) {
    if (of(tell({ type: 'timer', key: 'tick' }, atMs), 'fetch').some((fetch) => fetch.link === second.link))
      hedge = atMs;
  }
  t.ok(hedge !== undefined && hedge <= 1_500, `at ${hedge}`);
  const arrived = tell({ type: 'fetched', link: second.link, index: 0, good: true });
  t.strictSame(
    of(arrived, 'cancel').map((cancel) => cancel.link),
    [first.link],
  );
});

t.test('a liar is banned at once, an origin for a while', async (t) => {
  const { core, tell, wire } = start();
  for (const origin of [false, true]) {
    const peerId = origin ? 'origin' : 'peer';
    const { link, effects } = wire(peerId, all(), { origin });
    const effectsBad = tell({ type: 'fetched', link, index: of(effects, 'fetch')[0]!.index, good: false });
    t.equal(of(effectsBad, 'close')[0]?.reason, 'banned');
    t.equal(of(effectsBad, 'dropPiece')[0]?.bad, true);
    t.equal(core.welcome(peerId, 1), 'banned');
    t.equal(core.welcome(peerId, 40_000), origin ? 'yes' : 'banned');
  }
});

t.test('of two wires to one peer the one stays that the smaller id dialled', async (t) => {
  for (const peerId of ['a', 'z']) {
    for (const firstDialled of [true, false]) {
      const { core, wire } = start();
      const first = wire(peerId, [], { dialled: firstDialled });
      const second = wire(peerId, [], { dialled: !firstDialled });
      const kept = [...core.links.values()];
      t.equal(kept.length, 1);
      t.equal(kept[0]?.dialled, peerId === 'z', `${peerId} ${firstDialled}`);
      const closed = of([...first.effects, ...second.effects], 'close');
      t.ok(closed.every((close) => close.reason === 'duplicate'));
    }
  }
});

t.test('full is not dead: the peer is dialled again', async (t) => {
  const { tell } = start();
  const peers = [{ peerId: 'a', addresses: ['h:1'], origin: false, zone: 'z1' }];
  const [dial] = of(tell({ type: 'peers', peers }), 'dial');
  tell({ type: 'linkDown', link: dial!.link, reason: 'full' });
  t.equal(of(tell({ type: 'timer', key: 'tick' }, 100), 'dial').length, 0);
  t.equal(of(tell({ type: 'timer', key: 'tick' }, 3_000), 'dial').length, 1);
});

t.test('origins are dialled first, then the own zone', async (t) => {
  const { tell } = start({ limits: { dialledWires: 2 } });
  const peer = (peerId: string, zone: string, origin: boolean) => ({
    peerId,
    addresses: [`${peerId}:1`],
    origin,
    zone,
  });
  const dials = of(
    tell({
      type: 'peers',
      peers: [peer('far', 'z2', false), peer('near', 'z1', false), peer('o', 'z2', true)],
    }),
    'dial',
  );
  t.equal(dials.length, 2);
  t.equal(dials[0]?.peerId, 'o');
});

t.test('an origin suggests each piece to one peer and sends later askers away once', async (t) => {
  const { tell, wire } = start({ origin: true, leech: false, have: Bitfield.full(PIECES) });
  const suggested = ['a', 'b', 'c', 'd'].map((peerId) => {
    const { link, effects } = wire(peerId, [], { dialled: false });
    return { link, indexes: of(effects, 'sendSuggest').map((one) => one.index) };
  });
  const flat = suggested.flatMap((one) => one.indexes);
  t.equal(new Set(flat).size, flat.length);
  const index = suggested[0]!.indexes[0]!;
  const asks = suggested.map((one) => tell({ type: 'asked', link: one.link, index })[0]!.type);
  t.strictSame(asks, ['readPiece', 'refuse', 'refuse', 'refuse']);
  t.equal(tell({ type: 'asked', link: suggested[3]!.link, index }, 1_100)[0]!.type, 'readPiece');
});

t.test('HTTP is used without wires, paused after a bad piece, never banned', async (t) => {
  const { core, tell } = start();
  const link = core.drawLink();
  const fetches = of(tell({ type: 'httpUp', link, has: () => true }), 'fetch');
  t.ok(fetches.length > 0);
  t.equal(of(tell({ type: 'fetched', link, index: fetches[0]!.index, good: false }), 'fetch').length, 0);
  t.ok(of(tell({ type: 'timer', key: 'tick' }, 600), 'fetch').length > 0);
});

t.test('in the endgame a late piece is asked of a second source, of no third', async (t) => {
  const { core, tell, wire } = start({ knows: (index) => index === 0 });
  wire('a', [0]);
  wire('b', [0]);
  wire('c', [0]);
  for (let atMs = 250; atMs <= 900; atMs += 250) {
    for (const link of core.links.values())
      if (link.fetches.size > 0) tell({ type: 'progress', link: link.id, index: 0, bytes: 1_000 }, atMs);
    tell({ type: 'timer', key: 'tick' }, atMs);
  }
  t.equal([...core.links.values()].filter((link) => link.fetches.has(0)).length, 2);
});

t.test('without sources it asks for peers', async (t) => {
  const { tell } = start();
  let asked = 0;
  for (let atMs = 250; atMs <= 3_100; atMs += 250)
    asked += of(tell({ type: 'timer', key: 'tick' }, atMs), 'wantPeers').length;
  t.equal(asked, 3);
});

t.test(
  'beyond the share across zones nothing crosses while the own zone moves, then one by one',
  async (t) => {
    const { core, tell, wire } = start({ limits: { farShare: 0.2, depthMin: 8 } });
    const near = wire('near', []);
    const far = wire('far', all(), { zone: 'z2' });
    const flying = () => [...(core.links.get(far.link)?.fetches.keys() ?? [])];
    t.equal(flying().length, 4);
    for (const index of flying()) {
      tell({ type: 'progress', link: far.link, index, bytes: 2 ** 20 }, 100);
      tell({ type: 'fetched', link: far.link, index, good: true });
      tell({ type: 'written', index, ok: true });
    }
    t.equal(flying().length, 0);
    tell({ type: 'progress', link: near.link, index: 0, bytes: 1 }, 900);
    tell({ type: 'timer', key: 'tick' }, 1_500);
    t.equal(flying().length, 0);
    tell({ type: 'timer', key: 'tick' }, 2_000);
    t.equal(flying().length, 1);
    tell({ type: 'reader', reader: 1, index: core.have.nextMissing(0) });
    t.equal(flying().length, 2, 'a reader crosses');
  },
);

t.test('a peer that lied in one swarm is banned in the others of the engine', async (t) => {
  const bans = new Bans();
  const first = start({ bans });
  const second = start({ bans });
  const there = second.wire('liar', all());
  const { link } = first.wire('liar', all());
  first.tell({ type: 'fetched', link, index: 0, good: false });
  t.equal(second.core.welcome('liar', 1), 'banned');
  const closed = of(second.tell({ type: 'timer', key: 'tick' }, 250), 'close');
  t.strictSame(closed, [{ type: 'close', link: there.link, reason: 'banned' }]);
  const peers = [{ peerId: 'liar', addresses: ['h:1'], origin: false, zone: 'z1' }];
  t.equal(of(second.tell({ type: 'peers', peers }, 60_000), 'dial').length, 0);
});

t.test('bans are limited in number', async (t) => {
  const bans = new Bans();
  for (let i = 0; i < 5_000; i++) bans.add(`p${i}`, 1_000);
  t.equal(bans.size, 4_096);
  t.equal(bans.has('p0', 0), false);
  t.equal(bans.has('p4999', 0), true);
  t.equal(bans.has('p4999', 1_000), false);
});

t.test('suggestions go evenly to all, and to another when a peer is lost', async (t) => {
  const { tell, wire } = start({ origin: true, leech: false, have: Bitfield.full(PIECES) });
  const given = new Map<number, number[]>();
  const note = (effects: readonly SwarmEffect[]) => {
    for (const one of of(effects, 'sendSuggest'))
      given.set(one.link, [...(given.get(one.link) ?? []), one.index]);
  };
  const links = ['a', 'b', 'c', 'd'].map((peerId) => {
    const { link, effects } = wire(peerId, [], { dialled: false });
    note(effects);
    return link;
  });
  for (let round = 0; round < 4; round++)
    for (const link of links.slice(0, 3))
      note(tell({ type: 'haves', link, indexes: [given.get(link)![round]!] }));
  const counts = links.map((link) => given.get(link)!.length);
  t.equal(counts.pop(), 2);
  t.ok(Math.min(...counts) >= 5 && Math.max(...counts) <= 6, `as much to each: ${counts}`);
  const lost = given.get(links[3]!)!;
  tell({ type: 'linkDown', link: links[3]!, reason: 'closed' });
  const again = new Set<number>();
  for (let i = 0; i < PIECES; i++) {
    for (const link of links.slice(0, 3)) {
      const index = given.get(link)?.shift();
      if (index === undefined) continue;
      const effects = tell({ type: 'haves', link, indexes: [index] });
      for (const one of of(effects, 'sendSuggest')) again.add(one.index);
      note(effects);
    }
  }
  t.ok(
    lost.every((index) => again.has(index)),
    `lost ${lost}, suggested again ${[...again]}`,
  );
});

t.test('a piece that could not be written is fetched again', async (t) => {
  const { tell, wire } = start({ knows: (index) => index === 0 });
  const { link } = wire('a', [0]);
  t.equal(of(tell({ type: 'fetched', link, index: 0, good: true }), 'writePiece').length, 1);
  t.strictSame(of(tell({ type: 'written', index: 0, ok: false }), 'fetch'), [
    { type: 'fetch', link, index: 0 },
  ]);
});

t.test('without buffers nothing is asked until there are some', async (t) => {
  const { tell, wire } = start();
  const { link, effects } = wire('a', all());
  const { index } = of(effects, 'fetch')[0]!;
  t.equal(of(tell({ type: 'fetchFailed', link, index, busy: true }), 'fetch').length, 0);
  t.equal(of(tell({ type: 'timer', key: 'tick' }, 250), 'fetch').length, 0);
  t.ok(of(tell({ type: 'buffers' }), 'fetch').length > 0);
});

t.test('who does not leech asks nothing; a reader that closed is forgotten', async (t) => {
  const { tell, wire } = start({ leech: false });
  t.equal(of(wire('a', all()).effects, 'fetch').length, 0);
  tell({ type: 'reader', reader: 0, index: 30 });
  tell({ type: 'readerClosed', reader: 0 });
  t.ok(of(tell({ type: 'leech', on: true }), 'fetch').length > 0);
});

t.test('a piece that landed from elsewhere is cancelled where it was asked for, and announced', async (t) => {
  const { core, tell, wire } = start({ knows: (index) => index === 0 });
  const { link } = wire('a', [0]);
  const other = wire('b', []);
  const effects = tell({ type: 'landed', index: 0 });
  t.strictSame(of(effects, 'cancel'), [{ type: 'cancel', link, index: 0 }]);
  t.strictSame(of(effects, 'sendHave'), [{ type: 'sendHave', link: other.link, index: 0 }]);
  t.ok(core.have.has(0));
  t.strictSame(tell({ type: 'landed', index: 0 }), [], 'once');
});

t.test('what is not here is refused, and so is whoever is not linked', async (t) => {
  const have = new Bitfield(PIECES);
  have.add(0);
  const { tell, wire } = start({ leech: false, have });
  const { link } = wire('a', []);
  t.strictSame(tell({ type: 'asked', link, index: PIECES - 1 }), [
    { type: 'refuse', link, index: PIECES - 1 },
  ]);
  t.strictSame(tell({ type: 'asked', link, index: 0 }), [{ type: 'readPiece', link, index: 0 }]);
  t.strictSame(tell({ type: 'asked', link: link + 1, index: 0 }), [
    { type: 'refuse', link: link + 1, index: 0 },
  ]);
});

t.test('bytes of a link that is down keep no source from being called silent', async (t) => {
  const { core, tell, wire } = start({ limits: { depthMin: 1 } });
  const gone = wire('a', all());
  tell({ type: 'linkDown', link: gone.link, reason: 'closed' });
  const { link } = wire('b', all());
  t.strictSame(tell({ type: 'progress', link: gone.link, index: 0, bytes: 2 ** 20 }, 900), []);
  tell({ type: 'timer', key: 'tick' }, 1_100);
  t.equal(core.links.get(link)?.stalled, true);
});

t.test('an origin suggests a piece that landed later, once it is here', async (t) => {
  const { tell, wire } = start({ origin: true });
  const { link, effects } = wire('a', [], { dialled: false });
  t.strictSame(of(effects, 'sendSuggest'), []);
  t.strictSame(of(tell({ type: 'landed', index: 7 }), 'sendSuggest'), [
    { type: 'sendSuggest', link, index: 7 },
  ]);
});

t.test(
  'an HTTP source that is silent for long is given nothing for a while, its pieces are free again',
  async (t) => {
    const { core, tell } = start();
    const link = core.drawLink();
    const asked = of(tell({ type: 'httpUp', link, has: () => true }), 'fetch').map(({ index }) => index);
    const before = tell({ type: 'timer', key: 'tick' }, 29_999);
    t.strictSame(of(before, 'cancel'), []);
    const effects = tell({ type: 'timer', key: 'tick' }, 30_000);
    t.strictSame(
      of(effects, 'cancel').map(({ index }) => index),
      asked,
    );
    t.strictSame(of(effects, 'fetch'), []);
    t.equal(core.links.get(link)?.fetches.size, 0);
    t.ok(core.links.get(link), 'it is not given up');
  },
);
