import { digestOf } from '@sepia/base/digest';
import t from 'tap';
import { clientOf, failure, REPOSITORY as repository, soon, startUpstream } from './client-fixture.ts';

const BYTES = Buffer.from('a blob');

t.test('a registry is asked no more often than its operator says', async (t) => {
  const upstream = await startUpstream(t);
  const digest = digestOf(BYTES);
  upstream.addBlob(repository, BYTES);
  let nowMs = 10_000;
  const client = clientOf(t, upstream.url, {
    upstream: { 'requests-per-second': 2 },
    options: { queueTimeoutMs: 0 },
    nowMs: () => nowMs,
  });
  const ask = async (): Promise<unknown> => await client.headBlob({ repository, digest }, soon());
  // What was not used in the second before, and one now.
  for (let count = 0; count < 3; count++) await ask();
  const error = await failure(ask(), 'UPSTREAM_LIMITED');
  t.match(error.message, /requests-per-second/);
  t.equal(error.detail['retryAfterSeconds'], 1);
  t.equal(upstream.log.length, 3, 'it was not asked');
  nowMs += 500;
  await ask();
  await failure(ask(), 'UPSTREAM_LIMITED');
  t.equal(upstream.log.length, 4);
});

t.test('who may wait is sent later, and without the key nothing is counted', async (t) => {
  const upstream = await startUpstream(t);
  const digest = digestOf(BYTES);
  upstream.addBlob(repository, BYTES);
  const slow = clientOf(t, upstream.url, { upstream: { 'requests-per-second': 50 }, nowMs: () => 10_000 });
  const free = clientOf(t, upstream.url, { options: { queueTimeoutMs: 0 }, nowMs: () => 10_000 });
  for (let count = 0; count < 60; count++) {
    await slow.headBlob({ repository, digest }, soon());
    await free.headBlob({ repository, digest }, soon());
  }
  t.equal(upstream.log.length, 120);
});
