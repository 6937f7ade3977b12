import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { Reach } from '@sepia/base/reach';
import type { Cluster } from '@sepia/cluster/cluster';
import type { InternalClient, InternalRequest } from '@sepia/http/client';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { startCrowdedMember } from '@sepia/test-support/cluster/crowded-member';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { Origins } from '../../src/metainfo/origins.ts';

const NAME = { digest: digestOf(Buffer.from('x')), upstream: 'local', repository: parseRepositoryName('a') };
const SIGNAL = new AbortController().signal;

/** Origins a, b and c; `answer` stands for the network. */
function originsWith(answer: (call: InternalRequest) => Promise<unknown>): Origins {
  const cluster = {
    origins: () => ({ owners: ['a', 'b', 'c'], standIns: [] }),
    members: () => ['a', 'b', 'c'].map((id) => ({ id, urls: [`http://${id}`] })),
    member: (id: string) => ({ urls: [`http://${id}`] }),
  } as unknown as Cluster;
  return new Origins({ cluster, client: { json: answer, bytes: answer } as unknown as InternalClient });
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

t.test('origins are asked what they have however many long-polls are under way', async (t) => {
  const member = await startCrowdedMember(t, (_, path) => path.includes('/metainfo'));
  const cluster = {
    origins: () => ({ owners: ['a'], standIns: [] }),
    member: () => ({ urls: [member.url] }),
  } as unknown as Cluster;
  const origins = new Origins({ cluster, client: member.client });
  const gone = new AbortController();
  const known = Metainfo.open(NAME.digest, 1_000_000, '1'.repeat(32));
  const wish = { all: true };
  const polls = Array.from({ length: 3 }, () => [
    origins.poll('a', NAME, known, wish, 60_000, gone.signal),
    origins.metainfo('a', NAME, true, wish, gone.signal),
  ]).flat();
  await until(() => member.hung() === 2, 'two are under way, the others wait for a socket');
  await until(
    async () => (await origins.where(NAME, SIGNAL))[0]?.state !== 'silent',
    'what it has is told; on a busy machine not at the first try',
  );
  gone.abort(new CodedError('TIMEOUT'));
  t.ok((await Promise.allSettled(polls)).every(({ status }) => status === 'rejected'));
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

t.test('a tracker that reaches no origin knows it, and why; one that answers is enough', async (t) => {
  const reach = new Reach({ whom: 'origins', patienceMs: 0 });
  await originsWith(() => Promise.reject(new CodedError('PEER_HTTP'))).look(reach, SIGNAL);
  t.match(reach.lack(performance.now()), { kind: 'silent', why: /none of the origins/ });
  const refused = new CodedError('SIGNATURE_INVALID', { message: 'date is off by more than 60 s' });
  await originsWith(() => Promise.reject(refused)).look(reach, SIGNAL);
  t.match(reach.lack(performance.now()), { kind: 'refused', why: /date is off/ });
  const one = originsWith((call) =>
    call.to === 'c' ? Promise.resolve({}) : Promise.reject(new CodedError('PEER_HTTP')),
  );
  await one.look(reach, SIGNAL);
  t.equal(reach.lack(performance.now()), undefined);
});

t.test(
  'one origin that answers slowly or never costs the others nothing, and is heard again later',
  async (t) => {
    let isMute = true;
    const waits: number[] = [];
    const origins = originsWith(async (call) => {
      if (call.to !== 'a' || !isMute) return { state: call.to === 'b' ? 'final' : 'none', sizeBytes: 1 };
      waits.push(call.headersTimeoutMs);
      return await new Promise((_resolve, reject) => {
        call.signal?.addEventListener('abort', () => reject(new CodedError('TIMEOUT')), { once: true });
      });
    });
    for (let round = 0; round < 50; round++) {
      const found = await origins.where(NAME, SIGNAL);
      t.ok(
        found.some(({ originId, state }) => originId === 'b' && state === 'final'),
        `round ${round} has the answer of b`,
      );
    }
    t.same(
      waits,
      waits.map(() => 900),
      'rounds that others answered stretch no deadline',
    );
    t.equal(waits.length, 50, 'the slow one is asked each time');
    isMute = false;
    const found = await origins.where(NAME, SIGNAL);
    t.same(found[0], { originId: 'a', state: 'none', linked: false, sizeBytes: 1 });
  },
);

t.test('a holder is asked for nothing but its word, and not to ask another', async (t) => {
  const known = Metainfo.final(NAME.digest, 2 ** 20, Buffer.alloc(32, 1));
  const other = Metainfo.final(NAME.digest, 2 ** 20, Buffer.alloc(32, 2));
  const calls: InternalRequest[] = [];
  const origins = originsWith(async (call) => {
    calls.push(call);
    if (call.to === 'a') return { status: 304, bytes: Buffer.alloc(0) };
    if (call.to === 'b') return { status: 200, bytes: other.encode() };
    throw new CodedError('BLOB_UNKNOWN');
  });
  t.equal(await origins.word('a', NAME, known, SIGNAL), known);
  t.equal((await origins.word('b', NAME, known, SIGNAL)).etag, other.etag);
  await t.rejects(origins.word('c', NAME, known, SIGNAL), { code: 'BLOB_UNKNOWN' });
  const [call] = calls;
  t.equal(call?.path, `/v1/blobs/${NAME.digest}/metainfo?upstream=local&repository=a&want=ranges`);
  t.same(call?.headers, { 'if-none-match': known.etag, 'sepia-hop': '1' });
});
