import type { Digest } from '@sepia/base/digest';
import t from 'tap';
import {
  moved,
  owedAgain,
  owing,
  paid,
  restored,
  type TagState,
  yielded,
} from '../../../src/records/core/tag-record.ts';

const digestOf = (letter: string): Digest => `sha256:${letter.repeat(64)}` as Digest;
const [A, B, C] = ['a', 'b', 'c'].map(digestOf) as [Digest, Digest, Digest];
const HERE = { how: 'push', by: 'o1' } as const;

/** B was pushed over A, which the registry behind has. */
const PUSHED = owing(undefined, moved(undefined, { ...HERE, atMs: 1, digest: B }), A);

t.test('a register without history takes a confirmation, and begins one with its first move', async (t) => {
  const old: TagState = { digest: A, checkedAtMs: 1 };
  t.same(moved(old, { ...HERE, atMs: 2, digest: A }), { digest: A, checkedAtMs: 2, history: [] });
  t.match(moved(old, { ...HERE, atMs: 2, digest: B }).history, [{ digest: A, how: 'push' }, { digest: B }]);
});

t.test(
  'a delete that got there while the tag was pushed anew leaves the push owed, over nothing',
  async (t) => {
    t.same(paid(PUSHED, undefined, 2)?.owed, { sinceMs: 1, base: null, ours: [B] });
    t.same(paid(PUSHED, C, 2)?.owed, { sinceMs: 1, base: C, ours: [B] }, 'an older push: over that');
    t.equal(paid(PUSHED, B, 2)?.owed, undefined);
    t.equal(paid(undefined, B, 2), undefined);
  },
);

t.test('what the registry behind lost is owed again only while it is what is here', async (t) => {
  const settled = paid(PUSHED, B, 2)!;
  t.match(owedAgain(settled, B), { digest: B, owed: { base: null, ours: [B] } });
  t.equal(owedAgain(settled, A), settled, 'the tag moved on');
  t.equal(owedAgain(undefined, A), undefined);
});

t.test('a conflict that the registry behind wins ends at what it has, with a move of its own', async (t) => {
  const move = { atMs: 5, by: 'o2' };
  const won = yielded(PUSHED, B, C, move)!;
  t.match(won, { digest: C, checkedAtMs: 5 });
  t.same(won.history?.at(-1), { ...move, how: 'theirs', digest: C });
  const gone = yielded(PUSHED, B, null, move)!;
  t.equal(gone.digest, undefined);
  t.same(gone.history?.at(-1), { ...move, how: 'theirs' });
  for (const state of [won, gone]) t.equal(state.owed, undefined, 'nothing is owed any more');
});

t.test('a conflict about what is no longer here is not decided', async (t) => {
  const move = { atMs: 5, by: 'o2' };
  t.equal(yielded(PUSHED, A, C, move), PUSHED, 'pushed again meanwhile');
  const settled = paid(PUSHED, B, 2);
  t.equal(yielded(settled, B, C, move), settled, 'nothing was owed');
  t.equal(yielded(undefined, B, C, move), undefined);
});

t.test('a backup goes over what it is newer than, by the last move or what stands for it', async (t) => {
  const old: TagState = { digest: A, checkedAtMs: 3 };
  const newer: TagState = { digest: B, checkedAtMs: 4 };
  t.equal(restored(undefined, old), old);
  t.equal(restored(old, newer), newer);
  t.equal(restored(newer, old), newer);
  t.equal(
    restored(old, { ...newer, history: [{ ...HERE, atMs: 2, digest: B }] }),
    old,
    'confirmed is not moved',
  );
  t.equal(restored(undefined, PUSHED).owed?.restored, true, 'what it owed may have been paid since');
  const settled = paid(PUSHED, B, 2)!;
  t.equal(restored(settled, PUSHED), settled, 'what was paid since is not owed again');
});
