import { CodedError } from '@sepia/base/errors';
import t from 'tap';
import type { Members } from '../../src/cluster/members.ts';
import { BATCH_RECORDS, type ShardRecord } from '../../src/records/own-records.ts';
import { QuorumSet } from '../../src/records/quorum-set.ts';

const SHARD = { upstream: 'u', repository: 'r' };
const KEYS = Array.from({ length: BATCH_RECORDS + 7 }, (_, index) => [`k${index}`]);

/** A set whose owners `a` (this one), `b` and `c` have what `has` says; each asks of another is counted by its path. */
function setOf(has: Record<string, (key: string) => number | undefined>, isOld: (id: string) => boolean) {
  const calls: string[] = [];
  const recordOf = (id: string, [key = '']: readonly string[]): ShardRecord<number> | undefined => {
    const atMs = has[id]!(key);
    return atMs === undefined ? undefined : { key: [key], atMs, value: atMs };
  };
  const members = {
    selfId: 'a',
    shard: () => ({ epoch: 0, sets: [['a', 'b', 'c']] }),
    epoch: 0,
    isSuspect: () => false,
    news: async (): Promise<void> => undefined,
    counted: async (id: string, call: { path: string; json?: { keys: string[][] } }) => {
      const { pathname, searchParams } = new URL(call.path, 'http://x');
      calls.push(`${id} ${pathname}`);
      const sender = { id, generation: 1, known: {} };
      const asked = searchParams.get('key');
      if (asked !== null) return { sender, answer: { record: recordOf(id, JSON.parse(asked) as string[]) } };
      if (isOld(id)) throw new CodedError('ROUTE_UNKNOWN');
      const records = call.json!.keys.map((key) => recordOf(id, key) ?? null);
      return { sender, answer: { records } };
    },
  };
  const own = {
    agreedMs: () => 0,
    entriesOf: async (keys: readonly (readonly string[])[]) =>
      keys.map((key) => {
        const found = recordOf('a', key.slice(2));
        return found === undefined ? undefined : { ...found, key, value: found.value };
      }),
  };
  const standing = {
    require: () => undefined,
    sender: { id: 'a', generation: 1, known: {} },
    within: async <T>(_epoch: number, work: () => Promise<T>): Promise<T> => await work(),
  };
  const set = new QuorumSet<number>('links', {
    members: members as unknown as Members,
    standing,
    own: own as unknown as ConstructorParameters<typeof QuorumSet<number>>[1]['own'],
    nowMs: () => 0,
  });
  return { set, calls };
}

async function valuesOf(set: QuorumSet<number>): Promise<(number | undefined)[]> {
  const found: (number | undefined)[] = [];
  for await (const part of set.readMany(SHARD, KEYS)) found.push(...part.map((one) => one?.value));
  return found;
}

t.test('many keys are read with few messages, and the latest that a quorum knows stands', async (t) => {
  const number = (key: string): number => Number(key.slice(1));
  const { set, calls } = setOf(
    {
      a: (key) => (number(key) % 2 === 0 ? 1 : undefined),
      b: (key) => (number(key) % 3 === 0 ? 2 : undefined),
      c: () => {
        throw new CodedError('PEER_HTTP');
      },
    },
    () => false,
  );
  const wanted = KEYS.map(([key = '']) =>
    number(key) % 3 === 0 ? 2 : number(key) % 2 === 0 ? 1 : undefined,
  );
  t.same(await valuesOf(set), wanted);
  t.ok(calls.length <= 4, `${calls.length} messages`);
});

t.test('a member of the version before is asked for one key at a time', async (t) => {
  const { set, calls } = setOf({ a: () => undefined, b: () => 5, c: () => 5 }, () => true);
  t.same(
    await valuesOf(set),
    KEYS.map(() => 5),
  );
  t.ok(calls.length > KEYS.length);
});

t.test('with too few owners nothing is said about any key', async (t) => {
  const lost = setOf(
    {
      a: () => 1,
      b: () => {
        throw new CodedError('PEER_HTTP');
      },
      c: () => {
        throw new CodedError('PEER_HTTP');
      },
    },
    () => false,
  );
  await t.rejects(valuesOf(lost.set), { code: 'QUORUM_LOST' });
});
