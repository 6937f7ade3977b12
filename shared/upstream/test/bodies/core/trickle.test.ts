import t from 'tap';
import { Trickle } from '../../../src/bodies/core/trickle.ts';

/** The chunk, counted from one, at which `trickle` says that it is one; undefined if at none. */
function foundAt(trickle: Trickle, chunks: readonly (readonly [number, number])[]): number | undefined {
  const at = chunks.findIndex(([bytes, waitedMs]) => trickle.came(bytes, waitedMs));
  return at < 0 ? undefined : at + 1;
}

t.test('a byte each second is found out once the time is over', async (t) => {
  const drops = Array.from({ length: 60 }, () => [1, 1_000] as const);
  t.equal(foundAt(new Trickle(5_000), drops), 6);
});

t.test('a byte now and then is, whatever lies between', async (t) => {
  const drops = Array.from({ length: 60 }, () => [1, 9_000] as const);
  t.equal(foundAt(new Trickle(5_000), drops), 2);
});

t.test('a long pause before few bytes is none', async (t) => {
  const trickle = new Trickle(5_000);
  t.equal(foundAt(trickle, [[500, 9_500]]), undefined);
  t.equal(foundAt(trickle, [[600, 1]]), undefined);
  t.equal(foundAt(trickle, [[500, 9_500]]), undefined, 'what was enough begins anew');
});

t.test('1,024 bytes are enough, each time, and one less is not', async (t) => {
  const trickle = new Trickle(5_000);
  const enough = [
    [1_023, 9_000],
    [1, 9_000],
  ] as const;
  t.equal(foundAt(trickle, enough), undefined);
  t.equal(foundAt(trickle, enough), undefined, 'again, with nothing counted twice');
  const less = [
    [1_022, 9_000],
    [1, 9_000],
  ] as const;
  t.equal(foundAt(trickle, less), 2);
  t.equal(foundAt(new Trickle(5_000), less), 2);
});

t.test('a slow line is none', async (t) => {
  const chunks = Array.from({ length: 600 }, () => [300, 1_000] as const);
  t.equal(foundAt(new Trickle(5_000), chunks), undefined);
});
