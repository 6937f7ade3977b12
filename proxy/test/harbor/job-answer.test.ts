import t from 'tap';
import type { JobRecord, JobRow } from '../../src/harbor/core/job-slots.ts';
import { jobAnswer } from '../../src/harbor/job-answer.ts';

t.test('an answer stays below 1 MiB, however many nodes there are and whatever they say', async (t) => {
  const job = {
    id: 1,
    url: `https://${'h'.repeat(255)}/v2/${'r'.repeat(255)}/manifests/sha512:${'a'.repeat(128)}`,
    state: 'PENDING',
    createdAtMs: 0,
    updatedAtMs: 0,
    moreRows: 3,
  } as JobRecord;
  const rowsOf = (text: string): JobRow[] =>
    [...Array(3_000).keys()].map((at) => ({
      id: `${at}`.padEnd(128, 'n'),
      role: 'agent',
      ip: '10.0.0.1',
      state: at % 2 === 0 ? 'failed' : 'done',
      description: text,
    }));
  for (const text of ['', 'x'.repeat(500), '\0'.repeat(500), 'é'.repeat(500)]) {
    const answer = jobAnswer(job, rowsOf(text)) as { sepia: { rows: JobRow[]; moreRows: number } };
    t.ok(Buffer.byteLength(JSON.stringify(answer)) < 1024 * 1024);
    t.ok(answer.sepia.rows.length > 0);
    t.equal(answer.sepia.rows.length + answer.sepia.moreRows, 3_003, 'the others are counted');
  }
});
