import { CodedError } from '@sepia/base/errors';
import t from 'tap';
import { nobodyAnswers, silentMsOf } from '../../../src/source/core/silence.ts';

t.test('how long nobody answered is told by the error of silence, and by no other', async (t) => {
  const error = nobodyAnswers(['o1', 'o2'], 250);
  t.match(error, { code: 'NO_PEERS', message: /o1, o2/ });
  t.equal(silentMsOf(error), 250);
  t.equal(silentMsOf(new CodedError('NO_PEERS')), 0, 'nobody has it, but somebody said so');
  t.equal(silentMsOf(new CodedError('BLOB_UNKNOWN', { detail: { silentMs: 250 } })), 0);
  t.equal(silentMsOf(new Error('broken')), 0);
});
