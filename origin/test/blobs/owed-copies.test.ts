import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { News } from '@sepia/base/news';
import { H_CLASS } from '@sepia/cluster/api/headers';
import { LogLines } from '@sepia/test-support/log-lines';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import type { Hint } from '../../src/blobs/hints.ts';
import { Replicator } from '../../src/blobs/replicator.ts';

t.test('a disk that fails once ends no later round of owed copies', async (t) => {
  const log = new LogLines('info');
  const hint: Hint = { digest: digestOf(Buffer.from('a')), target: 'gone', upstream: 'u', repository: 'r' };
  const owed = new Set([hint]);
  let asked = 0;
  const hints = {
    news: new News(),
    all: async () => {
      asked += 1;
      if (asked === 1) throw new CodedError('DISK_CORRUPT', { message: 'the disk cannot be read' });
      return [...owed];
    },
    done: async () => void owed.clear(),
  };
  const deps = {
    ...{ hints, log: log.logger },
    members: { epoch: 1, find: () => undefined },
    store: { has: async () => true },
    upstreams: { keepsPushes: () => false },
    lookAgain: async () => undefined,
  };
  const replicator = new Replicator(deps as unknown as ConstructorParameters<typeof Replicator>[0], {
    stragglerMs: 1_000,
  });
  t.teardown(async () => await replicator.stop());
  replicator.start();
  await until(() => owed.size === 0, 'what is owed is looked at again');
  t.equal(log.matching(/were not looked through/).length, 1);
});

t.test('a push counts no copy that began while the blob was a cached one', async (t) => {
  const bytes = Buffer.from('cached, and then pushed');
  const name = { digest: digestOf(bytes), upstream: 'u', repository: 'r' };
  const attrs = { class: 'cached', provenance: [], writtenBack: true };
  const stored = {
    ...{ sizeBytes: bytes.length, attrs },
    read: async () => bytes,
    close: async () => undefined,
  };
  const [sent, done]: [string[], string[]] = [[], []];
  const [offered, taken] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
  const deps = {
    members: {
      ...{ selfId: 'o1', epoch: 1, isSuspect: () => false, shard: () => ({ sets: [['o1', 'o2', 'o3']] }) },
      placement: () => ({ owners: ['o1', 'o2', 'o3'], standIns: [], writeQuorum: 2 }),
      attended: async (_: string, put: (alive: AbortSignal) => Promise<unknown>, signal: AbortSignal) =>
        await put(signal),
      json: async (id: string, { headers }: { headers: Record<string, string> }) => {
        sent.push(`${id} ${headers[H_CLASS]}`);
        offered.resolve();
        if (headers[H_CLASS] === 'cached') await taken.promise;
      },
    },
    hints: {
      add: async () => undefined,
      done: ({ target }: { target: string }) => void done.push(target),
    },
    store: { stat: async () => stored, open: async () => stored },
    log: silentLogger(),
  };
  const replicator = new Replicator(deps as unknown as ConstructorParameters<typeof Replicator>[0], {
    stragglerMs: 60_000,
  });
  const offer = replicator.offer(name, 'o2', new AbortController().signal);
  await offered.promise;
  stored.attrs = { ...attrs, class: 'pushed', writtenBack: false };
  const push = replicator.hold(name.digest, async () => await replicator.place(name));
  await until(() => sent.includes('o3 pushed'), 'it is copied');
  taken.resolve();
  await Promise.all([push, offer]);
  await until(() => done.length === 2, 'nothing is owed');
  t.same(sent.sort(), ['o2 cached', 'o2 pushed', 'o3 pushed']);
});

t.test('copies that are owed to a silent origin hold up none that are owed to others', async (t) => {
  const owedTo = (target: string, text: string): Hint => {
    return { digest: digestOf(Buffer.from(text)), target, upstream: 'u', repository: 'r' };
  };
  const owed = [...['a', 'b', 'c', 'd'].map((text) => owedTo('hangs', text)), owedTo('lives', 'e')];
  const asked: string[] = [];
  const made = Promise.withResolvers<void>();
  const attrs = { class: 'pushed', provenance: [], writtenBack: false };
  const stored = { sizeBytes: 1, attrs, read: async () => Buffer.from('x'), close: async () => undefined };
  const deps = {
    hints: {
      ...{ news: new News(), all: async () => owed, owes: async () => true },
      done: () => made.resolve(),
    },
    members: {
      ...{ selfId: 'o1', epoch: 1, isSuspect: () => false, find: () => ({}) },
      placement: () => ({ owners: ['o1'] }),
      attended: async (id: string) => {
        asked.push(id);
        if (id === 'hangs') throw new CodedError('TIMEOUT', { message: 'it takes no bytes' });
      },
    },
    store: { has: async () => true, stat: async () => stored, open: async () => stored },
    ...{ log: silentLogger(), upstreams: { keepsPushes: () => false }, lookAgain: async () => undefined },
  };
  const replicator = new Replicator(deps as unknown as ConstructorParameters<typeof Replicator>[0], {
    stragglerMs: 1_000,
  });
  t.teardown(async () => await replicator.stop());
  replicator.start();
  await made.promise;
  t.same(asked, ['hangs', 'hangs', 'lives'], 'two are made at once');
});
