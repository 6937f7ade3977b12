import t from 'tap';
import { CLOCKS_APART_MS, JOB_HOLD_MS, JOB_KEPT_MS } from '../../../src/deadlines.ts';
import {
  boundedRows,
  claimSlot,
  dropHold,
  endJob,
  isAbandoned,
  JOB_SERIALS,
  JOB_SLOTS,
  type JobRow,
  renewHold,
  slotOf,
  takeOver,
} from '../../../src/harbor/core/job-slots.ts';
import { nodeRows } from '../../../src/harbor/core/rows.ts';

const JOB = {
  url: 'http://h/v2/a/b/manifests/v1',
  upstream: 'h',
  repository: 'a/b',
  reference: 'v1',
  scope: 'all_peers',
  hadToken: true,
  holder: 'p1.x',
} as const;
const AT = { slot: 1, serial: 1 };
const END = { state: 'SUCCESS', rows: [], moreRows: 0 } as const;

t.test('ids are safe integers of 53 random bits, in their slot', async (t) => {
  const largest = claimSlot(undefined, { slot: JOB_SLOTS - 1, serial: JOB_SERIALS - 1 }, JOB, 0)!;
  t.equal(largest.id, Number.MAX_SAFE_INTEGER);
  t.equal(slotOf(largest.id), JOB_SLOTS - 1);
  const ended = endJob(largest, largest.id, JOB.holder, END, 1);
  const next = claimSlot(ended, { slot: 7, serial: 5 }, JOB, 1 + JOB_KEPT_MS)!;
  t.equal(next.id, 5 * JOB_SLOTS + 7, 'nothing of the id before is in it');
});

t.test('a slot is taken while its job runs and for an hour after its end', async (t) => {
  const running = claimSlot(undefined, AT, JOB, 0)!;
  t.equal(claimSlot(running, AT, JOB, JOB_KEPT_MS), undefined);
  t.ok(claimSlot(running, AT, JOB, 2 * JOB_KEPT_MS), 'nobody ended it');
  const ended = endJob(running, running.id, JOB.holder, END, 1_000);
  t.equal(claimSlot(ended, AT, JOB, JOB_KEPT_MS), undefined);
  t.ok(claimSlot(ended, AT, JOB, JOB_KEPT_MS + 1_000));
});

t.test('a job whose hold is void is taken over, three times at most', async (t) => {
  let job = claimSlot(undefined, AT, JOB, 0)!;
  t.equal(isAbandoned(job, JOB_HOLD_MS), false);
  t.equal(takeOver(job, job.id, 'p2.x', JOB_HOLD_MS), job);
  job = renewHold(job, job.id, JOB.holder, 15_000);
  t.equal(isAbandoned(job, JOB_HOLD_MS + 1), false);
  t.equal(isAbandoned(job, 15_001 + JOB_HOLD_MS), true);
  t.equal(isAbandoned(job, 15_000 - CLOCKS_APART_MS), false);
  t.equal(isAbandoned(job, 14_999 - CLOCKS_APART_MS), true, 'held under a clock that was far ahead');
  job = takeOver(job, job.id, 'p2.x', 40_000)!;
  t.match(job, { holder: 'p2.x', runs: 2, state: 'PENDING' });
  t.throws(() => renewHold(job, job.id, JOB.holder, 41_000), { code: 'CONFLICT' }, 'the first runner is out');
  t.throws(() => endJob(job, job.id, JOB.holder, END, 41_000), { code: 'CONFLICT' });
  job = takeOver(dropHold(job, job.id, 'p2.x'), job.id, 'p3.x', 42_000)!;
  t.match(job, { holder: 'p3.x', runs: 3 });
  job = takeOver(job, job.id, 'p1.y', 90_000)!;
  t.match(job, { state: 'FAILURE', error: /went away 3 times/ });
  t.equal(takeOver(job, job.id, 'p2.x', 200_000), job, 'an end is final');
});

t.test('another job in the slot is not touched', async (t) => {
  const job = claimSlot(undefined, AT, JOB, 0)!;
  t.equal(takeOver(job, job.id + JOB_SLOTS, 'p2.x', 1e9), job);
  t.throws(() => renewHold(job, job.id + JOB_SLOTS, JOB.holder, 1), { code: 'CONFLICT' });
  t.throws(() => renewHold(undefined, 1, JOB.holder, 1), { code: 'CONFLICT' });
});

t.test('rows are bounded, failed ones first', async (t) => {
  const row = (id: string, state: JobRow['state']): JobRow => ({ id, role: 'agent', ip: '', state });
  const rows = [row('a', 'done'), row('b', 'failed'), row('c', 'done')];
  t.same(boundedRows(rows), { rows: [rows[1], rows[0], rows[2]], moreRows: 0 });
  const many = boundedRows([...Array(3_000).keys()].map((at) => row(`n${at}`, 'done')));
  t.equal(many.rows.length, 500);
  t.equal(many.moreRows, 2_500);
});

t.test('a node that left before it reported is a failed row', async (t) => {
  const rows = nodeRows(
    [
      { nodeId: 'a', state: 'pending', leased: false, address: '10.0.0.1:17001' },
      { nodeId: 'b', state: 'done', leased: false, address: '[fd00::1]:17001', doneBytes: 5, totalBytes: 5 },
      { nodeId: 'c', state: 'failed', leased: true, error: 'DISK_FULL: disk is full' },
    ],
    (id) => id !== 'c',
  );
  t.match(rows, [
    { id: 'a', ip: '10.0.0.1', state: 'failed', description: /went away/ },
    { id: 'b', ip: 'fd00::1', state: 'done' },
    { id: 'c', ip: '', state: 'failed', description: /DISK_FULL/ },
  ]);
});
