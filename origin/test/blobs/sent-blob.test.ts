import { setImmediate } from 'node:timers/promises';
import type { CodedError } from '@sepia/base/errors';
import { startCrowdedMember } from '@sepia/test-support/cluster/crowded-member';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { CHUNK_BYTES, watched } from '../../src/blobs/sent-blob.ts';

const BLOB = { sizeBytes: 3 * CHUNK_BYTES, read: async (_at: number, into: Uint8Array) => into };

t.test('a copy that no socket took yet is not late, one that its member takes no more of is', async (t) => {
  const [waiting, taken] = [new AbortController(), new AbortController()];
  // Of the two this one is looked at first.
  const first = watched(BLOB, 'o2', waiting, 1);
  const second = watched(BLOB, 'o2', taken, 1);
  t.teardown(() => [first, second].forEach(({ end }) => void end()));
  t.equal((await second.chunks.next()).done, false);
  await until(() => taken.signal.aborted, 'who takes nothing more is given up');
  t.match((taken.signal.reason as CodedError).message, /o2 takes no bytes/);
  await setImmediate();
  t.notOk(waiting.signal.aborted, 'who was not asked yet is not');
});

t.test('chunks are read once a socket is free for them', async (t) => {
  const member = await startCrowdedMember(t, () => true);
  const gone = new AbortController();
  const begun: number[] = [];
  async function* chunks(copy: number): AsyncGenerator<Uint8Array> {
    begun.push(copy);
    yield Buffer.alloc(CHUNK_BYTES);
  }
  const calls = [0, 1, 2].map((copy) =>
    member.client.bytes({
      ...{ url: member.url, to: 'o2', method: 'PUT', path: '/copy', headersTimeoutMs: 60_000 },
      ...{ headers: { 'content-length': String(CHUNK_BYTES) }, body: chunks(copy), signal: gone.signal },
    }),
  );
  await until(() => member.hung() === 2, 'two go over its two sockets');
  await setImmediate();
  t.same(begun, [0, 1], 'the third waits, and nothing is read for it');
  gone.abort(new Error('the test is over'));
  await Promise.allSettled(calls);
});
