import { CodedError } from '@sepia/base/errors';
import t from 'tap';
import { toCoded } from '../src/app.ts';

t.test('a full disk is told as such, whoever found it', async (t) => {
  const system = Object.assign(new Error('write'), { code: 'ENOSPC' });
  const database = new Error('IO error: /d/v1/db/000005.log: No space left on device');
  for (const error of [system, database]) t.match(toCoded(error), { code: 'DISK_FULL', cause: error });
});

t.test('what has a code keeps it, the rest is internal', async (t) => {
  const coded = new CodedError('NO_PEERS');
  t.equal(toCoded(coded), coded);
  t.match(toCoded(new URIError('x')), { code: 'REQUEST_INVALID' });
  t.match(toCoded(new Error('x')), { code: 'INTERNAL' });
});

t.test('a connection that another broke is no internal error', async (t) => {
  for (const code of ['ECONNRESET', 'EPIPE', 'ECONNREFUSED', 'UND_ERR_SOCKET', 'UND_ERR_BODY_TIMEOUT']) {
    const error = Object.assign(new Error(`read ${code}`), { code });
    t.match(toCoded(error), { code: 'PEER_HTTP', cause: error, facts: { status: 503 } }, code);
  }
});
