import t from 'tap';
import { AcceptorStore, parseRegisterRequest } from '../../src/register/acceptor-store.ts';
import { EMPTY_ACCEPTOR } from '../../src/register/register.ts';
import type { RecordTable } from '../../src/table/record-table.ts';

const b = (counter: number, proposer = 'p') => ({ counter, proposer });

/** A table in memory, of one key at a time. */
function memoryTable(): RecordTable {
  const kept = new Map<string, string>();
  const change: RecordTable['change'] = async (keys, step) => {
    const { writes, answer, onDurable } = step(keys.map((key) => kept.get(key)));
    for (const one of writes)
      if (one.type === 'put') kept.set(one.key, one.value);
      else kept.delete(one.key);
    onDurable?.();
    return answer;
  };
  return { isShared: false, change, get: async (key: string) => kept.get(key) } as unknown as RecordTable;
}

t.test('a register is forgotten only as it was seen, and by who may forget it then', async (t) => {
  const told: unknown[] = [];
  const onRecord = (...[, key, before, after]: [string, string, unknown, unknown]): void =>
    void told.push([key, before !== undefined, after !== undefined]);
  const store = new AcceptorStore({ table: memoryTable(), onRecord });
  await store.handle({ type: 'prepare', key: 'k', ballot: b(1) });
  const seen = await store.state('k');
  t.equal(await store.forget('k', seen, () => false), false, 'this origin owns it again');
  t.same(await store.state('k'), seen);
  await store.handle({ type: 'prepare', key: 'k', ballot: b(2) });
  t.equal(await store.forget('k', seen, () => true), false, 'it has promised more since');
  t.equal(await store.forget('k', await store.state('k'), () => true), true);
  t.same(await store.state('k'), EMPTY_ACCEPTOR);
  t.equal(await store.forget('k', seen, () => false), true, 'what is not there is gone');
  t.same(told, [
    ['k', false, true],
    ['k', true, true],
    ['k', true, false],
  ]);
});

t.test('requests are read up to their bounds, and refused beyond', async (t) => {
  const most = { key: 'k'.repeat(4096), ballot: b(0, 'p'.repeat(256)) };
  for (const good of [
    { type: 'read', key: 'k' },
    { type: 'read', key: 'k', epoch: 1 },
    { type: 'prepare', ...most },
    { type: 'accept', ...most, epoch: 7 },
  ])
    t.same(parseRegisterRequest(good), good);
  t.same(parseRegisterRequest({ type: 'read', key: 'k', epoch: 0 }), { type: 'read', key: 'k' });
  for (const [part, bad] of [
    ['epoch', { type: 'read', key: 'k', epoch: -1 }],
    ['epoch', { type: 'read', key: 'k', epoch: 0.5 }],
    ['key', { type: 'read', key: '' }],
    ['key', { type: 'prepare', ...most, key: `${most.key}k` }],
    ['ballot', { type: 'prepare', ...most, ballot: b(-1) }],
    ['ballot', { type: 'accept', ...most, ballot: b(1, 'p'.repeat(257)) }],
    ['ballot', { type: 'accept', key: 'k' }],
    ['type', { type: 'other', ...most }],
  ] as const)
    t.throws(() => parseRegisterRequest(bad), { code: 'REQUEST_INVALID', detail: { part } }, part);
});
