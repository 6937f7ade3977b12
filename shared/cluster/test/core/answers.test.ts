import { CodedError } from '@sepia/base/errors';
import t from 'tap';
import { isDecisive, isDefinite, isSilence } from '../../src/core/answers.ts';

t.test('what a member said: silence, an answer, the last word', async (t) => {
  const kinds = (error: unknown): boolean[] => [isSilence(error), isDefinite(error), isDecisive(error)];
  t.same(kinds(new CodedError('PEER_HTTP')), [true, false, false], 'nothing came');
  t.same(kinds(new CodedError('PEER_HTTP', { detail: { status: 500 } })), [false, false, false]);
  t.same(
    kinds(new CodedError('SIGNATURE_INVALID')),
    [true, false, false],
    'a clock or a key is off: others know us',
  );
  t.same(kinds(new CodedError('BLOB_UNKNOWN')), [false, true, true]);
  t.same(kinds(new CodedError('INTERNAL')), [false, false, false], 'its own fault');
  t.same(kinds(new CodedError('QUORUM_LOST')), [false, false, false], 'another may have one');
  t.same(
    kinds(new CodedError('BACKEND_DOWN')),
    [false, false, true],
    'the upstream failed: each other would wait as long',
  );
  t.same(kinds(new TypeError('bug')), [false, false, false]);
});
