import { inTurns } from '@sepia/base/async/in-turns';
import { CodedError } from '@sepia/base/errors';
import type { Tag } from '@sepia/base/names/repository';
import { REMOVAL_MS } from '../deadlines/own.ts';

/** Registers that are written at once. */
const AT_ONCE = 32;

/**
 * Takes away tags, many at once, for at most 20 s. Each one is durable, so that whoever repeats it goes on.
 * @param take false for a tag that was moved or is gone
 * @returns what was taken
 * @throws `TIMEOUT` with how many are left; what `take` fails with
 */
export async function takeTags(
  tags: readonly Tag[],
  take: (tag: Tag) => Promise<boolean>,
  nowMs: () => number = () => performance.now(),
): Promise<Tag[]> {
  const untilMs = nowMs() + REMOVAL_MS;
  const taken: Tag[] = [];
  let done = 0;
  for await (const some of inTurns(tags, AT_ONCE)) {
    if (nowMs() > untilMs) throw unfinished(done, tags.length);
    const went = await Promise.all(some.map(take));
    taken.push(...some.filter((_, index) => went[index]));
    done += some.length;
  }
  return taken;
}

function unfinished(done: number, all: number): CodedError {
  return new CodedError('TIMEOUT', {
    message: `${done} of ${all} tags are deleted; repeat the request to go on`,
    detail: { deleted: done, left: all - done, retryAfterSeconds: 1 },
  });
}
