import t from 'tap';
import { roundsWith } from './rounds-with.ts';

// One after the other: the rounds take ports of their own choice.

for (const [sabotage, kinds] of [
  ['accept-forgotten', ['lost']],
  ['owners-unwritten', ['lost', 'stale']],
  ['tag-frozen', ['stale']],
  ['chunk-dropped', ['corrupt']],
] as const)
  t.test(`${sabotage}: members that lie are found out`, async (t) => {
    const found = await roundsWith(sabotage);
    t.equal(found.code, 1);
    t.ok(
      kinds.some((kind) => found[kind] > 0),
      JSON.stringify(found),
    );
  });
