import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import type { Registers } from '@sepia/records/jobs/job-queue';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { EventQueue } from '../../src/harbor/event-queue.ts';

/** Events of one proxy over registers in memory; those of `greedy` fail, as what finds no place elsewhere does. */
function start(lookEveryMs: number) {
  const values = new Map<string, unknown>();
  const records: Registers = {
    read: async <T>(key: string) => values.get(key) as T | undefined,
    change: async <T>(key: string, change: (current: T | undefined) => T | undefined) => {
      const next = change(values.get(key) as T | undefined);
      values.set(key, next);
      return next;
    },
  };
  const worked: string[] = [];
  let nowMs = 0;
  let stepMs = 0;
  const dateMs = (): number => {
    nowMs += stepMs;
    return nowMs;
  };
  const queue = new EventQueue<string>(
    {
      ...{ records, memberId: 'proxy-1', log: silentLogger(), dateMs },
      ownerOf: (payload) => payload.split('/')[0]!,
      work: async (payload) => {
        if (payload.startsWith('greedy/')) throw new CodedError('OVERLOADED');
        if (payload.startsWith('once/') && !worked.includes(`first ${payload}`)) {
          worked.push(`first ${payload}`);
          throw new CodedError('OVERLOADED');
        }
        worked.push(payload);
      },
    },
    { lookEveryMs },
  );
  const take = async (payload: string): Promise<void> => await queue.accept([{ name: payload, payload }]);
  const run = (ms: number): void => {
    stepMs = ms;
  };
  return { queue, take, worked, run };
}

t.test('a project whose events find no end does not keep those of others out, nor late', async (t) => {
  const { queue, take, worked, run } = start(1);
  let refused = 0;
  for (let at = 0; at < 2_200; at += 1)
    await take(`greedy/${at}`).catch((error: unknown) => {
      t.match(error, { code: 'OVERLOADED', message: 'too many events of greedy wait; send it again later' });
      refused += 1;
    });
  t.equal(refused, 2_200 - 1_024);
  await take('other/1');
  await until(async () => worked.includes('other/1'), 'the event of another project was carried out at once');
  const once = Array.from({ length: 16 }, (_, at) => `once/${at}`);
  for (const name of once) await take(name);
  // So many fail that some are always due again.
  run(1_000);
  queue.start();
  await until(async () => once.every((name) => worked.includes(name)), 'what failed once comes in turn');
  await queue.stop();
});

t.test('many events that are due are not waited for one look after the other', async (t) => {
  const { queue, take, worked, run } = start(500);
  for (let at = 0; at < 400; at += 1) await take(`once/${at}`);
  const done = (): number => worked.filter((one) => one.startsWith('once/')).length;
  t.equal(done(), 0);
  run(100);
  queue.start();
  await until(async () => done() === 400, 'all were carried out');
  await queue.stop();
});
