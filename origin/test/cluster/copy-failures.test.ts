import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { LogLines } from '@sepia/test-support/log-lines';
import t from 'tap';
import { CopyFailures } from '../../src/cluster/copy-failures.ts';

t.test('an owner that is away has a line now and then, another reason one at once', async (t) => {
  const log = new LogLines();
  let nowMs = 0;
  const failures = new CopyFailures({ log: log.logger, nowMs: () => nowMs });
  const digest = digestOf(Buffer.from('blob'));
  const silent = new CodedError('PEER_HTTP', { message: 'o2 did not answer lately' });
  for (let i = 0; i < 100; i++) failures.note(digest, 'o2', silent);
  t.equal(log.matching(/copy failed/).length, 1);
  failures.note(digest, 'o2', new CodedError('DISK_FULL'));
  failures.note(digest, 'o3', silent);
  t.equal(log.matching(/copy failed/).length, 3);
  nowMs = 10_000;
  failures.note(digest, 'o2', silent);
  t.equal(log.matching(/copy failed/).length, 4);
  t.same(
    log.lines.map(({ unsaid }) => unsaid),
    [undefined, 99, undefined, undefined],
    'the next one says how many had none',
  );
});

t.test('of many owners and reasons 20 have a line in that time', async (t) => {
  const log = new LogLines();
  const failures = new CopyFailures({ log: log.logger, nowMs: () => 0 });
  const error = new CodedError('PEER_HTTP');
  for (let n = 0; n < 50; n++) failures.note(digestOf(Buffer.from('blob')), `o${n}`, error);
  t.equal(log.matching(/copy failed/).length, 20);
});
