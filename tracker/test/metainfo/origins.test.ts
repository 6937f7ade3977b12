import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import type { Cluster } from '@sepia/cluster/cluster';
import type { InternalClient, InternalRequest } from '@sepia/http/client';
import t from 'tap';
import { Origins } from '../../src/metainfo/origins.ts';

const NAME = { digest: digestOf(Buffer.from('x')), upstream: 'local', repository: 'a' };
const SIGNAL = new AbortController().signal;

/** Origins a, b and c; `answer` stands for the network. */
function originsWith(answer: (call: InternalRequest) => Promise<unknown>): Origins {
  const cluster = {
    origins: () => ({ owners: ['a', 'b', 'c'], standIns: [] }),
    member: (id: string) => ({ urls: [`http://${id}`] }),
  } as unknown as Cluster;
  return new Origins({ cluster, client: { json: answer } as unknown as InternalClient });
}

t.test('uneven answers never make the next question impossible', async (t) => {
  const waits: number[] = [];
  let slowMs = 0;
  const origins = originsWith(async (call) => {
    waits.push(call.headersTimeoutMs);
    await new Promise((resolve) => setTimeout(resolve, slowMs));
    return { state: 'none' };
  });
  for (slowMs of [0, 40, 1, 33, 0, 7, 0]) {
    const found = await origins.where(NAME, SIGNAL);
    t.same(
      found.map((one) => one.state),
      ['none', 'none', 'none'],
    );
  }
  t.equal(waits.length, 21);
  t.ok(
    waits.every((ms) => Number.isInteger(ms) && ms >= 900 && ms <= 4_000),
    waits.join(),
  );
});

t.test('a bug is thrown, not taken for the silence of every origin', async (t) => {
  const origins = originsWith(() => Promise.reject(new TypeError('wrong code')));
  await t.rejects(origins.where(NAME, SIGNAL), TypeError);
});

t.test('after a round without any answer the next waits longer', async (t) => {
  const waits: number[] = [];
  const origins = originsWith(async (call) => {
    waits.push(call.headersTimeoutMs);
    throw new CodedError('PEER_HTTP');
  });
  for (let round = 0; round < 4; round++) {
    const found = await origins.where(NAME, SIGNAL);
    t.ok(found.every((one) => one.state === 'silent'));
  }
  t.same(
    waits.filter((_ms, at) => at % 3 === 0),
    [900, 1_800, 3_600, 4_000],
  );
});
