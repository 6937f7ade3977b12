import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { CORE_LIMITS } from '../../src/core/limits.ts';
import type { Link } from '../../src/core/link.ts';
import { LinkTable } from '../../src/core/link-table.ts';
import { makeLink } from '../support/core.ts';

const KINDS = ['http', 'member', 'origin', 'stranger'] as const;

function linkOf(id: number, kind: (typeof KINDS)[number]): Link {
  return makeLink({
    id,
    kind: kind === 'http' ? 'http' : 'wire',
    peerId: `p${id}`,
    origin: kind === 'origin' || kind === 'http',
    isStranger: kind === 'stranger',
  });
}

t.test('whatever comes and goes, the counts are those of what is there', async (t) => {
  const step = fc.record({
    id: fc.nat(5),
    what: fc.constantFrom('set', 'delete', 'empty', 'news', 'wanting'),
    kind: fc.constantFrom(...KINDS),
  });
  let runs = 0;
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
      const table = new LinkTable();
      for (const { id, what, kind } of steps) {
        const there = table.get(id);
        if (what === 'set') table.set(id, linkOf(id, kind));
        else if (what === 'delete') table.delete(id);
        else if (what === 'wanting') table.noteWanting();
        else if (there !== undefined && what === 'empty') table.noteEmpty(there);
        else if (there !== undefined) table.noteNews(there);
        if (what === 'wanting' && table.eager.length !== table.size) return false;
      }
      runs += 1;
      const wires = [...table.values()].filter((one) => one.kind === 'wire');
      const members = wires.filter((one) => !one.isStranger);
      return (
        table.members === members.length &&
        table.strangers === wires.length - members.length &&
        table.peers === members.filter((one) => !one.origin).length &&
        [...table.origins].every((one) => one.origin && members.includes(one)) &&
        table.origins.size === members.filter((one) => one.origin).length &&
        new Set(wires.map((one) => one.seat)).size === wires.length &&
        wires.every((one) => one.seat >= 0 && one.seat < 6) &&
        [...table.values()].every((one) => table.eager.includes(one) === one.isEager) &&
        [...table.eager].every((one) => table.get(one.id) === one)
      );
    }),
    { numRuns: 200 },
  );
  t.ok(runs >= 200, `${runs} runs`);
});

t.test('who is new, has news or may have what is wanted anew is asked; who had nothing is not', async (t) => {
  const table = new LinkTable();
  const first = linkOf(1, 'member');
  const second = linkOf(2, 'member');
  table.set(1, first).set(2, second);
  table.noteEmpty(first);
  t.strictSame([...table.eager], [second]);
  table.noteNews(first);
  t.strictSame([...table.eager], [second, first]);
  table.noteEmpty(first);
  table.noteWanting();
  t.equal(table.eager.length, 2);
});

/** What may befall a link that is in a table, or not. */
const CHANGES: Readonly<Record<string, (link: Link, at: number) => void>> = {
  begin: (link, at) => link.begin(at, at),
  end: (link, at) => link.end(at),
  bytes: (link, at) => link.onBytes(at, 20e6, 1_000 * at),
  stall: (link) => link.checkSilence(CORE_LIMITS, 5_000, { ms: 0, longMs: 0 }),
  choke: (link) => link.choke(true),
  unchoke: (link) => link.choke(false),
  refuse: (link, at) => link.refuse(at, 500 + at),
  pause: (link, at) => link.pause(CORE_LIMITS, at),
};

t.test('what lies together of all links is what they say themselves', async (t) => {
  const change = fc.record({
    id: fc.oneof(fc.nat(3), fc.nat(70)),
    what: fc.constantFrom('set', 'delete', 'empty', 'begin', 'begin', ...Object.keys(CHANGES)),
    kind: fc.constantFrom(...KINDS),
    at: fc.nat(7),
  });
  const seen = { room: 0, full: 0, sure: 0, unsure: 0 };
  fc.assert(
    fc.property(fc.nat(70), fc.array(change, { minLength: 10, maxLength: 80 }), (count, changes) => {
      const table = new LinkTable();
      for (let id = 0; id < count; id++) table.set(id, linkOf(id, KINDS[id % KINDS.length]!));
      for (const { id, what, kind, at } of changes) {
        const there = table.get(id);
        if (what === 'set') table.set(id, linkOf(id, kind));
        else if (what === 'delete') {
          table.delete(id);
          there?.begin(at, 0);
        } else if (there !== undefined && what === 'empty') table.noteEmpty(there);
        else if (there !== undefined) CHANGES[what]!(there, at);
      }
      const found: unknown[] = [];
      table.forEachWithRoom((link, load, isHttp) => found.push([link.id, load, isHttp]));
      const withRoom = table.eager.filter((link) => link.room(CORE_LIMITS) > 0);
      seen.room += withRoom.length;
      seen.full += table.eager.length - withRoom.length;
      t.strictSame(
        found,
        withRoom.map((link) => [link.id, link.load, link.kind === 'http']),
      );
      const peers = [...table.values()].filter(
        (one) => one.kind === 'wire' && !one.isStranger && !one.origin,
      );
      for (const nowMs of [0, 503, 2_000]) {
        const isUnsure = (one: Link): boolean =>
          one.stalled || one.choked || one.refuses(nowMs) || nowMs < one.notBeforeMs;
        const areSure = !peers.some(isUnsure);
        seen[areSure ? 'sure' : 'unsure'] += 1;
        if (table.facts.arePeersSure(nowMs) !== areSure) return false;
      }
      return true;
    }),
    { numRuns: 300 },
  );
  t.ok(
    Object.values(seen).every((times) => times > 20),
    JSON.stringify(seen),
  );
});

t.test('what peers hold together: origins, strangers and HTTP sources do not count', async (t) => {
  const table = new LinkTable();
  const holding = (id: number, kind: (typeof KINDS)[number], ...pieces: readonly number[]): Link => {
    const one = linkOf(id, kind);
    for (const index of pieces) one.has.add(index);
    return one;
  };
  table
    .set(1, holding(1, 'origin', 7))
    .set(2, holding(2, 'stranger', 7))
    .set(3, holding(3, 'http'));
  t.equal(table.peerPieces(), undefined, 'there is no peer');
  const peer = holding(4, 'member', 0, 2);
  table.set(4, peer).set(5, holding(5, 'member', 2, 5));
  t.same([...table.peerPieces()!], [0, 2, 5]);
  table.peerPieces()!.add(7);
  t.same([...peer.has], [0, 2], 'a copy');
  table.delete(5);
  t.same([...table.peerPieces()!], [0, 2]);
});
