import { silentLogger } from '@sepia/base/log';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { type PublicRecord, PublicRepositories } from '../../src/records/public-repositories.ts';
import type { QuorumSet } from '../../src/records/quorum-set.ts';

const NAME = { upstream: 'hub', repository: 'team/app' };

/** Origins that share one record. */
class Bench {
  recorded: PublicRecord | undefined;
  readonly writes: string[] = [];
  /** What each write waits for before it is on record. */
  gate: Promise<void> = Promise.resolve();
  #dateMs = 1_000;

  origin(): PublicRepositories {
    const set = {
      read: async () => (this.recorded === undefined ? undefined : { value: this.recorded }),
      write: async (_shard: unknown, [change]: readonly { readonly value?: PublicRecord }[]) => {
        await this.gate;
        this.recorded = change?.value;
        this.writes.push(change?.value === undefined ? 'private' : 'public');
      },
    } as unknown as QuorumSet<PublicRecord>;
    return new PublicRepositories({
      ...{ set, log: silentLogger(), nowMs: () => 0 },
      dateMs: () => {
        this.#dateMs += 1;
        return this.#dateMs;
      },
    });
  }
}

t.test('what another origin noted as public since is forgotten once more', async (t) => {
  const bench = new Bench();
  const [one, other] = [bench.origin(), bench.origin()];
  const written = async (count: number): Promise<void> => {
    await until(() => bench.writes.length === count, `${count} writes`);
  };
  other.note(NAME);
  await written(1);
  await other.forget(NAME);
  await written(2);
  one.note(NAME);
  await written(3);
  t.type(await other.recall(NAME), 'number', 'it became public again');
  await other.forget(NAME);
  await written(4);
  await other.forget(NAME);
  t.equal(await one.recall(NAME), undefined, 'and private again');
  t.same(bench.writes, ['public', 'private', 'public', 'private']);
});

t.test('what is on its way to the record is forgotten too', async (t) => {
  const bench = new Bench();
  const origin = bench.origin();
  const { promise, resolve } = Promise.withResolvers<void>();
  bench.gate = promise;
  origin.note(NAME);
  const forgotten = origin.forget(NAME);
  resolve();
  await forgotten;
  await until(() => bench.writes.length === 2, 'both are written');
  t.same(bench.writes, ['public', 'private']);
  t.equal(await origin.recall(NAME), undefined);
});
