import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { Unproven } from '../../src/core/unproven.ts';

t.test(
  'one host has its share, and where all places are taken the one with the most gives way',
  async (t) => {
    const limits = { all: 6, perHost: 4 };
    const places = new Unproven<number>(limits);
    let id = 0;
    const enter = (address: string): 'in' | 'out' | number => {
      const entry = places.admit(address);
      if (entry.type === 'refuse') return 'out';
      if (entry.instead !== undefined) places.delete(entry.instead);
      places.add(id++, address);
      return entry.instead ?? 'in';
    };
    for (let n = 0; n < 4; n++) t.equal(enter('a'), 'in');
    t.equal(enter('a'), 'out');
    t.equal(enter('b'), 'in');
    t.equal(enter('b'), 'in');
    t.equal(enter('c'), 0, 'the oldest of the host with the most');
    t.equal(enter('d'), 1);
    t.equal(enter('b'), 'out', 'no host has two more than it');
  },
);

t.test('whoever dials, the limits hold and nobody with fewer places loses one', async (t) => {
  const limits = { all: 8, perHost: 5 };
  const step = fc.tuple(fc.constantFrom('a', 'b', 'c', 'd', 'e'), fc.boolean(), fc.nat(20));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 80 }), (steps) => {
      const places = new Unproven<{ address: string }>(limits);
      const count = (address: string): number =>
        places.connections().filter((one) => one.address === address).length;
      for (const [address, leaves, which] of steps) {
        if (leaves) {
          const one = places.connections()[which % Math.max(1, places.size)];
          if (one !== undefined) places.delete(one);
          continue;
        }
        const entry = places.admit(address);
        if (entry.type === 'refuse') continue;
        if (entry.instead !== undefined) {
          if (places.size < limits.all || count(entry.instead.address) < count(address) + 2) return false;
          places.delete(entry.instead);
        }
        places.add({ address }, address);
        if (places.size > limits.all || count(address) > limits.perHost) return false;
      }
      return true;
    }),
  );
  t.pass('held');
});
