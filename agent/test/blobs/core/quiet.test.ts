import { CodedError, type ErrorCode } from '@sepia/base/errors';
import t from 'tap';
import { isOfNoUse, isQuiet } from '../../../src/blobs/core/quiet.ts';

t.test('a cluster that does not answer is told from one that refuses', async (t) => {
  for (const code of ['PEER_HTTP', 'NO_PEERS', 'QUORUM_LOST', 'DRAINING', 'TIMEOUT'] satisfies ErrorCode[])
    t.ok(isQuiet(new CodedError(code)), code);
  for (const code of ['BLOB_UNKNOWN', 'AUTH_DENIED', 'DIGEST_MISMATCH'] satisfies ErrorCode[])
    t.notOk(isQuiet(new CodedError(code)), code);
  t.notOk(isQuiet(new TypeError('a bug')));
});

t.test(
  'a partial is of no use once its bytes are wrong, or the disk fails; else it is gone on with',
  async (t) => {
    for (const code of [
      'UPSTREAM_LIES',
      'STALE_ATTEMPT',
      'DISK_FULL',
      'DISK_FAILED',
      'DISK_CORRUPT',
    ] as const)
      t.ok(isOfNoUse(new CodedError(code)), code);
    for (const code of ['NO_PEERS', 'DRAINING'] as const) t.notOk(isOfNoUse(new CodedError(code)), code);
    t.notOk(isOfNoUse(new TypeError('a bug')));
  },
);
