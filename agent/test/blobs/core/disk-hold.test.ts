import { CodedError } from '@sepia/base/errors';
import t from 'tap';
import { DiskHold } from '../../../src/blobs/core/disk-hold.ts';

t.test('a disk that refused is left alone for a while, and told of until it took a blob', async (t) => {
  const hold = new DiskHold('/data', 5_000);
  t.notOk(hold.holds(0));
  t.same(hold.warnings, []);
  hold.refused(new CodedError('DISK_FULL'), 1_000);
  t.ok(hold.holds(5_999));
  t.notOk(hold.holds(6_000), 'the next blob is tried');
  t.match(hold.warnings, [/^the disk of \/data is full: .*not kept$/]);
  for (const [system, words] of [
    ['ENOSPC', / is full: make room/],
    ['EDQUOT', / within a quota: raise it/],
    ['EFBIG', / raise the limit of file sizes \(ulimit -f/],
  ] as const) {
    hold.refused(new CodedError('DISK_FULL', { detail: { system } }), 7_000);
    t.match(hold.warnings, [words]);
  }
  hold.refused(new CodedError('DISK_FAILED', { detail: { system: 'EROFS' } }), 7_000);
  t.match(hold.warnings, [/takes no writes \(EROFS\)/]);
  hold.refused(new CodedError('DISK_FAILED'), 8_000);
  t.match(hold.warnings, [/takes no writes \(see the log\)/]);
  hold.took();
  t.same(hold.warnings, []);
});
