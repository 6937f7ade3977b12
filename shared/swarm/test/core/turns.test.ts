import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { Turns } from '../../src/core/link-table.ts';
import { makeLink } from '../support/core.ts';

t.test('the least lot first, of equal ones the later; then round after round who goes on', async (t) => {
  const turns = fc.array(fc.record({ lot: fc.nat(5), rounds: fc.nat(3) }), { maxLength: 12 });
  fc.assert(
    fc.property(turns, (all) => {
      const order = new Turns();
      const links = all.map(({ lot, rounds }, id) => ({ link: makeLink({ id }), lot, left: rounds }));
      for (const { link, lot } of links) order.add(link, lot);
      const taken: number[] = [];
      for (let link = order.next(); link !== undefined; link = order.next()) {
        taken.push(link.id);
        if (links[link.id]!.left-- > 0) order.again(link);
      }
      // As it is by sorting all and going through them from the end.
      const sorted = links.map(({ link, lot }) => ({ id: link.id, lot, left: all[link.id]!.rounds }));
      sorted.sort((a, b) => b.lot - a.lot);
      const expected: number[] = [];
      while (sorted.length > 0)
        for (let at = sorted.length - 1; at >= 0; at--) {
          expected.push(sorted[at]!.id);
          if (sorted[at]!.left-- <= 0) sorted.splice(at, 1);
        }
      return taken.join() === expected.join();
    }),
  );
  t.pass('held');
});
