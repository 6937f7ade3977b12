import { answersOf, askAll, type Said } from '@sepia/base/async/ask-many';
import { Verdict } from '@sepia/base/async/verdict';
import { CodedError, isCoded } from '@sepia/base/errors';
import { isBug } from '@sepia/base/failure';
import type { Shard } from '@sepia/cluster/ring';
import { writeStep } from '@sepia/records/core/set-protocol';
import { counted, isReadQuorum, type Sender } from '@sepia/records/core/standing';
import { ASK_HEDGE_MS } from '../deadlines/members.ts';

/** An answer, and what it counts by. */
export interface CountedAnswer<A> {
  readonly sender: Sender;
  readonly answer: A;
}

/**
 * Asks owners of a shard, in the order of `ids` so many at first as are enough if they answer; resolves when a read quorum of
 * answers counts, the answers settle it, or no more can come. Who does not answer, or refuses, is silent; anything else is
 * thrown. Nobody is given up in the middle of its answer: that would cost the connection.
 */
export async function askCounted<A>(
  shard: Shard,
  ask: (id: string) => Promise<CountedAnswer<A>>,
  settles: (answers: readonly A[]) => boolean = () => false,
  isEnough: (ids: readonly string[]) => boolean = (ids) => isReadQuorum(ids, shard),
  ids: readonly string[] = [...new Set(shard.sets.flat())],
): Promise<{ readonly answers: A[]; readonly isEnough: boolean; readonly silent: string[] }> {
  const good = (said: readonly Said<string, CountedAnswer<A>>[]): CountedAnswer<A>[] =>
    counted(answersOf(said));
  const isDone = (answers: readonly CountedAnswer<A>[]): boolean =>
    isEnough(answers.map(({ sender }) => sender.id));
  const few = ids.findIndex((_, index) => isEnough(ids.slice(0, index + 1))) + 1;
  const said = await askAll(ids, ask, {
    first: few === 0 ? undefined : { count: few, hedgeAfterMs: ASK_HEDGE_MS },
    isEnough: (soFar) => {
      const answers = good(soFar);
      return isDone(answers) || settles(answers.map(({ answer }) => answer));
    },
  });
  const [sole] = said;
  if (sole !== undefined && sole.type !== 'answer' && isFinal(sole.error, ids)) throw sole.error;
  const answers = good(said);
  const silent = said.filter(({ type }) => type === 'silence').map(({ by }) => by);
  return { answers: answers.map(({ answer }) => answer), isEnough: isDone(answers), silent };
}

/** The sole owner says why it cannot know: nobody else is asked. */
function isFinal(error: unknown, ids: readonly string[]): boolean {
  return ids.length === 1 && isCoded(error, 'QUORUM_LOST');
}

/**
 * Runs `write` on all owners of a shard at once; resolves when the acknowledgements of a majority count (in a ring
 * change of the old and of the new owners), the others go on behind.
 * @throws `QUORUM_LOST` when that is out of reach, with the last error as cause
 */
export async function writeToOwners(shard: Shard, write: (id: string) => Promise<Sender>): Promise<void> {
  const ids = [...new Set(shard.sets.flat())];
  const open = new Set(ids);
  const acks: { readonly sender: Sender }[] = [];
  const verdict = new Verdict<void>();
  const judge = (cause?: unknown): void => {
    const step = writeStep(acks, open, shard.sets);
    const detail = { owners: ids };
    if (step === 'done') verdict.give();
    else if (step === 'lost')
      verdict.fail(
        new CodedError('QUORUM_LOST', { message: 'too few origins took the write', detail, cause }),
      );
  };
  for (const id of ids)
    write(id).then(
      (sender) => {
        open.delete(id);
        acks.push({ sender });
        judge();
      },
      (cause: unknown) => {
        open.delete(id);
        if (isBug(cause) || isFinal(cause, ids)) verdict.fail(cause);
        else judge(cause);
      },
    );
  if (ids.length === 0) judge();
  await verdict.outcome;
}
