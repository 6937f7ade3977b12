import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { Bitfield } from '../src/bitfield.ts';

const SIZE = 29;
const INDEXES = fc.array(fc.nat(SIZE - 1));

function of(indexes: readonly number[]): Bitfield {
  const bits = new Bitfield(SIZE);
  for (const index of indexes) bits.add(index);
  return bits;
}

t.test('two meet where both have an index that the third has not', async (t) => {
  let met = 0;
  fc.assert(
    fc.property(INDEXES, INDEXES, fc.option(INDEXES, { nil: undefined }), (one, other, but) => {
      const isMet = one.some((index) => other.includes(index) && but?.includes(index) !== true);
      if (isMet) met += 1;
      return of(one).meets(of(other), but && of(but)) === isMet;
    }),
  );
  t.ok(met > 0, `${met} met`);
});

t.test('what is visited is what iterating gives', async (t) => {
  fc.assert(
    fc.property(INDEXES, (indexes) => {
      const visited: number[] = [];
      of(indexes).forEach((index) => void visited.push(index));
      return visited.join() === [...of(indexes)].join() && visited.length === new Set(indexes).size;
    }),
  );
  t.pass('held');
});
