import t from 'tap';
import type { ConversionJob, ConversionTask } from '../../src/api/conversions.ts';
import { Settled } from '../../src/core/settled-conversions.ts';
import { SETTLED_REST_MS } from '../../src/deadlines.ts';

const NOW_MS = 10 * SETTLED_REST_MS;
const TASK: ConversionTask = {
  kind: 'convert',
  rule: 'r',
  upstream: 'hub',
  repository: 'library/app',
  tag: '1',
  digest: 'sha256:a',
};
const REMOVAL: ConversionTask = { ...TASK, kind: 'remove' };
type End = Partial<Pick<ConversionJob, 'payload' | 'state' | 'result' | 'endedAtMs'>>;
const ended = (...ends: readonly End[]): Settled =>
  new Settled(
    ends.map((end) => ({ payload: TASK, state: 'dead', ...end })),
    NOW_MS,
  );

t.test('a source whose job died lately rests, and is tried again after an hour', async (t) => {
  t.ok(ended({ endedAtMs: NOW_MS - SETTLED_REST_MS + 1 }).has(TASK));
  t.notOk(ended({ endedAtMs: NOW_MS - SETTLED_REST_MS }).has(TASK));
  t.ok(ended({ endedAtMs: NOW_MS + 1_000 }).has(TASK), 'by a clock that is a little ahead');
  t.notOk(ended({ endedAtMs: NOW_MS + SETTLED_REST_MS }).has(TASK), 'before clocks were set back');
  t.ok(ended({}).has(TASK), 'an end without a time was just now');
});

t.test('a source whose job somebody cancelled stays out', async (t) => {
  t.ok(ended({ state: 'cancelled', endedAtMs: 0 }).has(TASK));
});

t.test('what is open or done settles nothing', async (t) => {
  for (const state of ['waiting', 'running', 'done'] as const)
    t.notOk(ended({ state, endedAtMs: NOW_MS }).has(TASK), state);
});

t.test('only the very same source is settled', async (t) => {
  const settled = ended({}, { payload: { ...TASK, digest: 'sha256:b' } });
  t.ok(settled.has(TASK));
  t.ok(settled.has({ ...TASK, digest: 'sha256:b' }), 'several sources of one tag');
  const { digest: _digest, ...unknown } = TASK;
  t.notOk(settled.has(unknown), 'a source that is not known');
  t.notOk(ended({ payload: unknown }).has(TASK), 'nor one that the job did not know');
  for (const other of [
    { digest: 'sha256:c' },
    { kind: 'index' },
    { rule: 'other' },
    { upstream: 'quay' },
    { repository: 'library/other' },
    { tag: '2' },
  ] as const)
    t.notOk(settled.has({ ...TASK, ...other }), JSON.stringify(other));
});

t.test(
  'a result that could not be taken away lately is left alone, whatever its source is now',
  async (t) => {
    const stays: End = { payload: REMOVAL, state: 'done', result: { outcome: 'skipped', stays: true } };
    const settled = ended({ ...stays, endedAtMs: NOW_MS - 1 });
    t.ok(settled.has(REMOVAL));
    t.ok(settled.has({ ...REMOVAL, digest: 'sha256:b' }));
    t.notOk(settled.has({ ...REMOVAL, tag: '2' }));
    t.notOk(settled.has(TASK), 'its source may be converted again');
    t.notOk(
      ended({ ...stays, endedAtMs: NOW_MS - SETTLED_REST_MS }).has(REMOVAL),
      'an hour later it is tried',
    );
    t.notOk(ended({ ...stays, result: { outcome: 'removed' }, endedAtMs: NOW_MS }).has(REMOVAL));
    t.notOk(
      ended({ payload: REMOVAL, endedAtMs: NOW_MS }).has(REMOVAL),
      'a removal that died is tried again',
    );
  },
);
