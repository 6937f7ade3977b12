import { fc } from '@sepia/test-support/property';
import t from 'tap';
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
        if (what === 'wanting' && table.eager.size !== table.size) return false;
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
        [...table.values()].every((one) => table.eager.has(one) === one.isEager) &&
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
  t.equal(table.eager.size, 2);
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
