import { CodedError, type ErrorCode } from '@sepia/base/errors';
import t from 'tap';
import { isQuiet } from '../../../src/blobs/core/quiet.ts';

t.test('a cluster that does not answer is told from one that refuses', async (t) => {
  for (const code of ['PEER_HTTP', 'NO_PEERS', 'QUORUM_LOST', 'DRAINING', 'TIMEOUT'] satisfies ErrorCode[])
    t.ok(isQuiet(new CodedError(code)), code);
  for (const code of ['BLOB_UNKNOWN', 'AUTH_DENIED', 'DIGEST_MISMATCH'] satisfies ErrorCode[])
    t.notOk(isQuiet(new CodedError(code)), code);
  t.notOk(isQuiet(new TypeError('a bug')));
});
