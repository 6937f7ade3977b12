import { CodedError } from '@sepia/base/errors';
import { isBug } from '@sepia/base/failure';
import type { Shard } from '@sepia/cluster/ring';
import { counted, isQuorum, isReadQuorum, type Sender } from '@sepia/records/core/standing';

/** An answer, and what it counts by. */
export interface CountedAnswer<A> {
  readonly sender: Sender;
  readonly answer: A;
}

/**
 * Asks all owners of a shard at once; resolves when a read quorum of answers counts, the answers settle it, or no more
 * can come. Who does not answer, or refuses, is silent; anything else is thrown.
 */
export async function askCounted<A>(
  shard: Shard,
  ask: (id: string, signal: AbortSignal) => Promise<CountedAnswer<A>>,
  settles: (answers: readonly A[]) => boolean = () => false,
  isEnough: (ids: readonly string[]) => boolean = (ids) => isReadQuorum(ids, shard),
  ids: readonly string[] = [...new Set(shard.sets.flat())],
): Promise<{ readonly answers: A[]; readonly isEnough: boolean }> {
  const stop = new AbortController();
  const told: CountedAnswer<A>[] = [];
  const good = (): CountedAnswer<A>[] => counted(told);
  const isDone = (): boolean => isEnough(good().map(({ sender }) => sender.id));
  let open = ids.length;
  try {
    await new Promise<void>((resolve, reject) => {
      if (open === 0) resolve();
      for (const id of ids)
        ask(id, stop.signal)
          .then(
            (answer) => told.push(answer),
            (error: unknown) => {
              if (isBug(error)) reject(error);
            },
          )
          .then(() => {
            open -= 1;
            // The rule is asked first: one that is wrong must not be hidden by the last answer.
            if (isDone() || settles(good().map(({ answer }) => answer)) || open === 0) resolve();
          })
          .catch(reject);
    });
  } finally {
    stop.abort(new CodedError('TIMEOUT', { message: 'enough owners answered' }));
  }
  return { answers: good().map(({ answer }) => answer), isEnough: isDone() };
}

/**
 * Runs `write` on all owners of a shard at once; resolves when the acknowledgements of a majority count (in a ring
 * change of the old and of the new owners), the others go on behind.
 * @throws `QUORUM_LOST` when that is out of reach, with the last error as cause
 */
export async function acknowledged(shard: Shard, write: (id: string) => Promise<Sender>): Promise<void> {
  const ids = [...new Set(shard.sets.flat())];
  const open = new Set(ids);
  const acks: { readonly sender: Sender }[] = [];
  await new Promise<void>((resolve, reject) => {
    const judge = (cause?: unknown): void => {
      const good = counted(acks).map(({ sender }) => sender.id);
      const detail = { owners: ids };
      if (isQuorum(good, shard.sets)) resolve();
      else if (!isQuorum([...good, ...open], shard.sets))
        reject(new CodedError('QUORUM_LOST', { message: 'too few origins took the write', detail, cause }));
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
          if (isBug(cause)) reject(cause);
          else judge(cause);
        },
      );
    if (ids.length === 0) judge();
  });
}
