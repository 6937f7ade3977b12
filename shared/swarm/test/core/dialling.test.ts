import t from 'tap';
import { Bans } from '../../src/core/bans.ts';
import { Dialling } from '../../src/core/dialling.ts';
import type { KnownPeer, SwarmEffect } from '../../src/core/events.ts';
import { CORE_LIMITS as LIMITS } from '../../src/core/limits.ts';
import { Chance } from '../../src/core/random.ts';

function peer(peerId: string, over: Partial<KnownPeer> = {}): KnownPeer {
  return { peerId, addresses: [`${peerId}:1`], origin: false, zone: 'z', ...over };
}

function start(): { dialling: Dialling; bans: Bans; dialled: (nowMs: number, wires?: number) => string[] } {
  const bans = new Bans();
  const init = { limits: LIMITS, chance: new Chance(1), ownId: 'me', zone: 'z', bans };
  const dialling = new Dialling(init);
  let next = 0;
  const dialled = (nowMs: number, wires = 0): string[] => {
    const effects: SwarmEffect[] = [];
    dialling.dial(
      wires,
      nowMs,
      () => next++,
      (effect) => effects.push(effect),
    );
    return effects.flatMap((effect) => (effect.type === 'dial' ? [`${effect.peerId} ${effect.link}`] : []));
  };
  return { dialling, bans, dialled };
}

t.test(
  'a peer whose wire failed is dialled again once its pause is over, though nothing happened',
  async (t) => {
    const { dialling, dialled } = start();
    dialling.learn([peer('a')]);
    t.strictSame(dialled(0), ['a 0']);
    t.equal(dialling.pending, 1);
    dialling.onDown(0, 'failed', 100);
    t.equal(dialling.pending, 0);
    t.strictSame(dialled(100), []);
    let atMs = 100;
    while (dialled(atMs).length === 0 && atMs < 60_000) atMs += 1;
    t.ok(atMs >= 100 + LIMITS.backoffMinMs * 0.75 && atMs <= 100 + LIMITS.backoffMinMs * 1.25, `${atMs} ms`);
  },
);

t.test('a liar is dialled when its ban is over; a new address, or a new peer, at once', async (t) => {
  const { dialling, bans, dialled } = start();
  bans.add('liar', 5_000);
  dialling.learn([peer('liar')]);
  t.strictSame(dialled(0), []);
  t.strictSame(dialled(4_999), []);
  dialling.learn([peer('other')]);
  t.strictSame(dialled(4_999), ['other 0']);
  t.strictSame(dialled(5_000), ['liar 1']);
  dialling.onDown(1, 'failed', 5_001);
  t.strictSame(dialled(5_002), []);
  dialling.learn([peer('liar', { addresses: ['elsewhere:1'] })]);
  t.strictSame(dialled(5_003), ['liar 2']);
});

t.test('a ban that was shortened, or forgotten for others, ends when it ends', async (t) => {
  const { dialling, bans, dialled } = start();
  for (const liar of ['a', 'b']) bans.add(liar, 9_000);
  dialling.learn([peer('a'), peer('b')]);
  t.strictSame(dialled(0), []);
  // Another swarm of the engine met it as an origin.
  bans.add('a', 5_000);
  t.strictSame(dialled(4_999), []);
  t.strictSame(dialled(5_000), ['a 0']);
  for (let at = 0; at < 4_096; at++) bans.add(`other ${at}`, 9_000);
  t.strictSame(dialled(5_001), ['b 1']);
});

t.test('who found no room is dialled when there is some', async (t) => {
  const { dialling, dialled } = start();
  dialling.learn([peer('a'), peer('b'), peer('c')]);
  t.equal(dialled(0, LIMITS.dialledWires - 1).length, 1);
  t.equal(dialled(1, LIMITS.dialledWires).length, 0);
  t.equal(dialled(2, 0).length, 2);
});

t.test('whether there is anybody to share with follows what is learnt and forgotten', async (t) => {
  const { dialling, dialled } = start();
  dialling.learn([peer('o', { origin: true }), peer('stranger 10.0.0.1:5')]);
  t.notOk(dialling.knowsPeers);
  dialling.learn([peer('a')]);
  t.ok(dialling.knowsPeers);
  dialling.learn([peer('a', { origin: true })]);
  t.notOk(dialling.knowsPeers, 'it became an origin');
  dialling.learn([peer('a')]);
  t.ok(dialling.knowsPeers);
  dialled(0);
  for (let link = 0; link < 3; link++) dialling.onDown(link, 'failed', 10);
  const crowd = Array.from({ length: LIMITS.knownPeers }, (_, at) => peer(`o${at}`, { origin: true }));
  dialling.learn(crowd);
  t.notOk(dialling.knowsPeers, 'it was forgotten for others');
});

t.test(
  'a peer that came up is not dialled; as a duplicate that went it is, after the shortest pause',
  async (t) => {
    const { dialling, dialled } = start();
    dialling.learn([peer('a')]);
    dialling.onUp('a', 7);
    t.strictSame(dialled(0), []);
    dialling.onDown(7, 'duplicate', 10);
    t.strictSame(dialled(10 + LIMITS.backoffMinMs - 1), []);
    t.strictSame(dialled(10 + LIMITS.backoffMinMs), ['a 0']);
  },
);

t.test('neither itself nor a peer without an address is dialled', async (t) => {
  const { dialling, dialled } = start();
  dialling.learn([peer('me'), peer('silent', { addresses: [] }), peer('a')]);
  t.strictSame(dialled(0), ['a 0']);
});
