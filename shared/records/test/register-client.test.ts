import { CodedError } from '@sepia/base/errors';
import t from 'tap';
import type { RegisterReply, RegisterRequest } from '../src/register/register.ts';
import { RegisterClient } from '../src/register/register-client.ts';

function clientWith(
  transport: (id: string, request: RegisterRequest) => Promise<RegisterReply>,
): RegisterClient {
  const deps = { transport, chance: () => 0.5, nowMs: () => performance.now() };
  return new RegisterClient(deps, { proposerId: 'p', backoffMs: 1, maxBackoffMs: 2 });
}

t.test('owners that are silent are no quorum', async (t) => {
  const client = clientWith(() => Promise.reject(new CodedError('PEER_HTTP')));
  await t.rejects(client.read('key', ['a', 'b', 'c']), { code: 'QUORUM_LOST' });
});

t.test('a bug on the way to an owner is thrown: it is not the silence of an owner', async (t) => {
  const client = clientWith(() => Promise.reject(new TypeError('wrong code')));
  await t.rejects(client.read('key', ['a', 'b', 'c']), TypeError);
  await t.rejects(
    client.change('key', ['a', 'b', 'c'], () => 1),
    TypeError,
  );
});

t.test('a bug in the change itself is thrown', async (t) => {
  const client = clientWith(async (_id, request) =>
    request.type === 'accept' ? { type: 'accepted' } : ({ type: 'state' } as RegisterReply),
  );
  const change = (): number => {
    throw new TypeError('wrong code');
  };
  await t.rejects(client.change('key', ['a', 'b', 'c'], change), TypeError);
});
