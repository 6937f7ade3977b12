import { CONVERSION_CALLS, TASK_KINDS } from '@sepia/cluster/api/conversions';
import { parseClusterDocument } from '@sepia/cluster/load-document';
import type { Registers } from '@sepia/records/jobs/job-queue';
import t from 'tap';
import { Conversions } from '../../src/conversions/conversions.ts';

function make(...conversions: object[]): Conversions & { nowMs: number } {
  const values = new Map<string, unknown>();
  const registers: Registers = {
    read: async <T>(key: string) => values.get(key) as T | undefined,
    change: async <T>(key: string, change: (current: T | undefined) => T | undefined) => {
      const next = change(values.get(key) as T | undefined);
      values.set(key, next);
      return next;
    },
  };
  const upstreams = [
    { name: 'local', mode: 'none' },
    { name: 'other', mode: 'none' },
  ];
  const document = parseClusterDocument(
    JSON.stringify({ version: 1, members: [], upstreams, conversions }),
    'doc',
  );
  const clock = { nowMs: 1 };
  const rules = document.conversions;
  const made = new Conversions({ registers, rules, dateMs: () => clock.nowMs, chance: () => 0.5 });
  return Object.defineProperty(made, 'nowMs', { set: (ms: number) => (clock.nowMs = ms) }) as typeof made &
    typeof clock;
}

const push = { kind: 'push', upstream: 'local', repository: 'team/app', tag: '1' } as const;

t.test('a repeated event makes no second job, a moved tag renews the one', async (t) => {
  const conversions = make({ name: 'all', from: 'local', repositories: ['**'] });
  const digest = (char: string): string => `sha256:${char.repeat(64)}`;
  await conversions.take({ ...push, digest: digest('1') });
  await conversions.take({ ...push, digest: digest('1') });
  await conversions.take({ ...push, digest: digest('2') });
  const jobs = await conversions.queue.list();
  t.match(jobs, [{ payload: { tag: '1', digest: digest('2') }, state: 'waiting' }]);
  t.equal(jobs.length, 1);
});

t.test('a source that died while two scans looked at it is put in once', async (t) => {
  const conversions = make({ name: 'all', from: 'local', repositories: ['**'] });
  const { queue } = conversions;
  const task = { kind: 'convert', rule: 'all', upstream: 'local', repository: 'team/app', tag: '1' } as const;
  const source = { ...task, digest: `sha256:${'1'.repeat(64)}` };
  const { id } = await conversions.add(source, true);
  t.same(await conversions.add(source, true), { id, isNew: false }, 'it waits');
  t.equal((await queue.take('first', 1)).length, 1);
  await queue.fail(id, 'first', 'LAYER_INVALID: a broken layer', true);
  t.same(await conversions.add(source, true), { id, isNew: false }, 'it is dead');
  t.equal((await queue.list()).length, 1);
  t.match(await conversions.add({ ...source, rule: 'other' }, true), { isNew: true }, 'by another rule');
  conversions.nowMs = 3_600_001;
  const next = await conversions.add(source, true);
  t.match(next, { isNew: true }, 'dead for an hour');
  await queue.cancel(next.id);
  t.match(await conversions.add(source, true), { isNew: false }, 'cancelled');
  t.match(await conversions.add(source), { isNew: true }, 'somebody told it');
});

t.test('one project does not take all places of the queue', async (t) => {
  const conversions = make({ name: 'all', from: 'local', repositories: ['**'] });
  const digest = `sha256:${'1'.repeat(64)}`;
  const fill = async (project: string): Promise<number> => {
    for (let taken = 0; ; taken += 1)
      try {
        await conversions.take({ ...push, repository: `${project}/app-${taken}`, digest });
      } catch (error) {
        t.match(error, { code: 'OVERLOADED', message: `too many jobs of local/${project} wait` });
        return taken;
      }
  };
  const [first, second] = [await fill('greedy'), await fill('late')];
  t.ok(first > 500 && first <= 800, `${first} of the first`);
  t.ok(second > 200, `${second} of the next`);
});

t.test('a task of a later version is taken in, and given to who knows it', async (t) => {
  const { task } = CONVERSION_CALLS.add.parse({
    task: { kind: 'sign', rule: 'all', upstream: 'local', repository: 'team/app', tag: '1', key: 'k' },
  });
  const conversions = make({ name: 'all', from: 'local', repositories: ['**'] });
  await conversions.add(task);
  const { queue } = conversions;
  const knows = (kinds: readonly string[]) => (one: { readonly kind: string }) => kinds.includes(one.kind);
  t.same(await queue.take('this version', 4, knows(TASK_KINDS)), []);
  t.match(await queue.take('a later one', 4, knows([...TASK_KINDS, 'sign'])), [
    { tries: 0, payload: { kind: 'sign', key: 'k' } },
  ]);
});
