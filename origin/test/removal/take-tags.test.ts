import type { Tag } from '@sepia/base/names/repository';
import t from 'tap';
import { takeTags } from '../../src/removal/take-tags.ts';

const TAGS = Array.from({ length: 20_000 }, (_, at) => `v${at}` as Tag);

t.test(
  '20,000 tags: many at once, a clear answer within the time of the caller, and a repetition ends it',
  async (t) => {
    let nowMs = 0;
    let running = 0;
    let most = 0;
    const left = new Set(TAGS);
    const take = async (tag: Tag): Promise<boolean> => {
      running += 1;
      most = Math.max(most, running);
      await Promise.resolve();
      running -= 1;
      nowMs += 2;
      return left.delete(tag);
    };
    const clock = (): number => nowMs;
    await t.rejects(takeTags(TAGS, take, clock), {
      code: 'TIMEOUT',
      message: /^\d+ of 20000 tags are deleted; repeat/,
      facts: { status: 503 },
      detail: { retryAfterSeconds: 1, deleted: 10_016, left: 9_984 },
    });
    t.ok(nowMs < 21_000, `it ended after ${nowMs} ms`);
    t.ok(most > 1 && most <= 32, `${most} at once`);
    t.equal(left.size, 9_984);
    const rest = [...left];
    nowMs = 0;
    t.same(await takeTags(rest, take, clock), rest);
    t.equal(left.size, 0);
  },
);

t.test('what was moved meanwhile is not named, and a failure is thrown', async (t) => {
  const some = TAGS.slice(0, 3);
  t.same(await takeTags(some, (tag) => Promise.resolve(tag !== 'v1')), ['v0', 'v2']);
  await t.rejects(
    takeTags(some, () => Promise.reject(new Error('broken'))),
    /broken/,
  );
});
