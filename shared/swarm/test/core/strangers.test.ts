import { Bitfield } from '@sepia/base/bitfield';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { Invitations } from '../../src/core/strangers/invitations.ts';
import { banIdOf, isStrangerId, strangerId } from '../../src/core/strangers/stranger-id.ts';
import { StrangerRate } from '../../src/core/strangers/stranger-rate.ts';
import { StrangerSlots } from '../../src/core/strangers/stranger-slots.ts';
import { strangerLimits } from '../../src/shell/stranger-room.ts';
import { all, of, PIECES, start } from '../support/core.ts';

const STRANGER = { isStranger: true };
const one = strangerId('192.0.2.1:5000');

t.test('a stranger is nobody else than its address', async (t) => {
  t.ok(isStrangerId(one));
  t.notOk(isStrangerId('0'.repeat(40)));
  t.equal(banIdOf(one), banIdOf(strangerId('192.0.2.1:6000')), 'another port is no other stranger');
  t.not(banIdOf(one), banIdOf(strangerId('192.0.2.2:5000')));
  t.equal(banIdOf(strangerId('[2001:db8::1]:1')), banIdOf(strangerId('[2001:db8::1]:2')));
  t.equal(banIdOf('ab'.repeat(20)), 'ab'.repeat(20), 'members are banned by their id');
});

t.test('nothing is asked of a stranger while it chokes', async (t) => {
  const { tell, wire } = start();
  const { link, effects } = wire(one, all(), STRANGER);
  t.same(of(effects, 'fetch'), []);
  t.equal(of(tell({ type: 'choked', link, on: false }), 'fetch').length, 1, 'one piece at a time');
  tell({ type: 'choked', link, on: true });
  t.same(of(tell({ type: 'fetchFailed', link, index: 0, busy: false }), 'fetch'), []);
});

t.test('a stranger keeps nobody from asking an origin, though it has everything', async (t) => {
  const { tell, wire, core } = start();
  const stranger = wire(one, all(), STRANGER);
  tell({ type: 'choked', link: stranger.link, on: false });
  const origin = wire('origin', all(), { origin: true });
  t.ok((core.links.get(origin.link)?.fetches.size ?? 0) > 0, 'as if the stranger were not there');
});

t.test('a piece that a stranger is slow with is asked of a member too', async (t) => {
  const { tell, wire, core } = start({ pieceCount: 2, have: new Bitfield(2) });
  const stranger = wire(one, [0, 1], STRANGER);
  tell({ type: 'choked', link: stranger.link, on: false });
  const [index] = core.links.get(stranger.link)!.fetches.keys();
  const member = wire('member', [index!]);
  let doubled = false;
  for (let atMs = 250; atMs <= 5_000 && !doubled; atMs += 250) {
    tell({ type: 'progress', link: stranger.link, index: index!, bytes: 1_000 }, atMs);
    const asked = of(tell({ type: 'timer', key: 'tick' }, atMs), 'fetch');
    doubled = asked.some((fetch) => fetch.link === member.link && fetch.index === index);
  }
  t.ok(doubled, 'although bytes of it are coming all the time');
});

t.test('a stranger that lies is banned by its host, and bans no member', async (t) => {
  const { core, tell, wire } = start();
  const { link } = wire(one, all(), STRANGER);
  tell({ type: 'choked', link, on: false });
  const [index] = core.links.get(link)!.fetches.keys();
  t.equal(of(tell({ type: 'fetched', link, index: index!, good: false }), 'close')[0]?.reason, 'banned');
  t.equal(core.welcome(strangerId('192.0.2.1:7000'), 0), 'banned');
  t.equal(core.welcome(strangerId('192.0.2.9:7000'), 0), 'yes');
  t.equal(core.welcome('member', 0), 'yes');
});

t.test('strangers neither use up the wires of members nor distract a super-seeding origin', async (t) => {
  const { core, wire, tell } = start({
    origin: true,
    leech: false,
    have: Bitfield.full(PIECES),
    limits: { wires: 1 },
  });
  const stranger = wire(one, [], STRANGER);
  t.equal(core.welcome('member', 0), 'yes');
  t.same(of(stranger.effects, 'sendSuggest'), [], 'no piece is set aside for it');
  t.equal(of(tell({ type: 'asked', link: stranger.link, index: 3 }), 'readPiece').length, 1);
  tell({ type: 'haves', link: stranger.link, indexes: all().slice(0, 10) });
  t.ok(of(wire('member', []).effects, 'sendSuggest').length > 0, 'what only it has is still to be given');
});

t.test('slots: who asked first is served first, and turns come round', async (t) => {
  const slots = new StrangerSlots<string>({ slots: 2, holdMs: 30_000 });
  for (const who of ['a', 'b', 'c']) slots.ask(who, 0);
  t.same(slots.turn(0), { unchoke: ['a', 'b'], choke: [] });
  t.same(slots.turn(29_999), { unchoke: [], choke: [] });
  t.same(slots.turn(30_000), { unchoke: ['c'], choke: ['a'] }, 'only as many as wait give way');
  t.same(slots.turn(60_000), { unchoke: ['a'], choke: ['b'] });
  t.ok(slots.leave('c'));
  t.notOk(slots.leave('c'));
  t.same(slots.turn(60_001), { unchoke: ['b'], choke: [] });
});

t.test('with a rate of 0 nobody is served', async (t) => {
  const policies = { 'stranger-slots': 8, 'stranger-rate': 64 * 1024 };
  t.same(strangerLimits(policies), { slots: 8, bytesPerSec: 64 * 1024 });
  const { slots } = strangerLimits({ ...policies, 'stranger-rate': 0 });
  const none = new StrangerSlots<string>({ slots, holdMs: 30_000 });
  none.ask('a', 0);
  t.same(none.turn(0), { unchoke: [], choke: [] });
  t.same(none.turn(60_000), { unchoke: [], choke: [] });
});

t.test('slots: never more than there are, and whoever goes on asking is served', async (t) => {
  const action = fc.tuple(fc.constantFrom('ask', 'leave', 'turn'), fc.nat(7), fc.nat(20_000));
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 4 }), fc.array(action, { maxLength: 60 }), (limit, actions) => {
      const slots = new StrangerSlots<number>({ slots: limit, holdMs: 30_000 });
      const served = new Set<number>();
      let nowMs = 0;
      const turn = (): void => {
        const { choke, unchoke } = slots.turn(nowMs);
        for (const who of choke) served.delete(who);
        for (const who of unchoke) served.add(who);
      };
      for (const [what, who, passedMs] of actions) {
        nowMs += passedMs;
        if (what === 'ask') slots.ask(who, nowMs);
        else if (what === 'turn') turn();
        else if (slots.leave(who)) served.delete(who);
        if (served.size > limit || ![...served].every((one) => slots.has(one))) return false;
      }
      const waiting = new Set([0, 1, 2, 3, 4, 5, 6, 7]);
      for (const who of waiting) slots.ask(who, nowMs);
      for (let round = 0; round < 9; round++) {
        turn();
        for (const who of served) waiting.delete(who);
        nowMs += 30_000;
      }
      return waiting.size === 0;
    }),
  );
  t.pass('every history');
});

t.test('rate: over any time no more than it allows, and a trickle while members are served', async (t) => {
  const rate = 1_000_000;
  const step = fc.tuple(fc.nat(500), fc.integer({ min: 1, max: 300_000 }), fc.boolean());
  fc.assert(
    fc.property(fc.array(step, { minLength: 1, maxLength: 80 }), (steps) => {
      const bucket = new StrangerRate({ bytesPerSec: rate, readBytes: 300_000, nowMs: 0 });
      let nowMs = 0;
      let taken = 0;
      for (const [passedMs, bytes, busy] of steps) {
        nowMs += passedMs;
        const waitMs = bucket.take(bytes, busy, nowMs);
        if (waitMs === 0) taken += bytes;
        else if (!(waitMs > 0 && waitMs < 10_000)) return false;
      }
      return taken <= rate + (rate * nowMs) / 1_000;
    }),
  );
  const busy = new StrangerRate({ bytesPerSec: 16 * rate, readBytes: 65_536, nowMs: 0 });
  let taken = 0;
  for (let nowMs = 0; nowMs <= 10_000; nowMs += 10) if (busy.take(65_536, true, nowMs) === 0) taken += 65_536;
  t.ok(taken <= 11 * rate, `${taken} of ${160 * rate} bytes beside members`);
  t.ok(taken >= 9 * rate, `${taken} bytes: never nothing`);
});

t.test('of each host one is dialled at a time, and its addresses take turns', async (t) => {
  const invitations = new Invitations();
  const [dead, live, late] = ['192.0.2.1:1', '192.0.2.1:2', '192.0.2.1:3'];
  const elsewhere = '192.0.2.2:1';
  t.same(invitations.choose([dead, live, elsewhere], []), [dead, elsewhere]);
  t.same(
    invitations.choose([dead, live, elsewhere], []),
    [live, elsewhere],
    'whose turn it is, in any order',
  );
  t.same(invitations.choose([late, live, dead], []), [late], 'who is new comes first');
  t.same(invitations.choose([late, live, dead], []), [dead]);
  t.same(invitations.choose([late, live, dead], []), [live]);
  t.same(invitations.choose([live, elsewhere], [banIdOf(strangerId(late))]), [elsewhere], 'it is here');
  const many = Array.from({ length: 40 }, (_none, at) => `10.0.0.${at}:1`);
  t.equal(invitations.choose(many, []).length, 16, 'hosts at once');
  t.equal(invitations.choose(many, ['here', 'there']).length, 14);
});
