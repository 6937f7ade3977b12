import { mock } from 'node:test';
import { digestOf } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { RequestTurns } from '../src/slot-gate.ts';
import {
  clientOf,
  failure,
  readAll,
  REPOSITORY as repository,
  soon,
  startUpstream,
} from './client-fixture.ts';

const BYTES = Buffer.from('a blob');
const FOR = { waitMs: 60_000, upstream: 'hub', host: 'hub.example.com' };

t.test('a registry is asked no more often than its operator says', async (t) => {
  const upstream = await startUpstream(t);
  const digest = digestOf(BYTES);
  upstream.addBlob(repository, BYTES);
  const client = clientOf(t, upstream.url, {
    upstream: { 'requests-per-second': 0.001 },
    options: { queueTimeoutMs: 0 },
  });
  const ask = async (): Promise<unknown> => await client.headBlob({ repository, digest }, soon());
  await ask();
  const error = await failure(ask(), 'UPSTREAM_LIMITED');
  t.match(error.message, /requests-per-second/);
  t.match(error.detail, { upstream: 'fake', retryAfterSeconds: 1_000 });
  t.equal(upstream.log.length, 1, 'it was not asked');
});

t.test('who may wait is sent later, and without the key nothing is counted', async (t) => {
  const upstream = await startUpstream(t);
  const digest = digestOf(BYTES);
  upstream.addBlob(repository, BYTES);
  const slow = clientOf(t, upstream.url, { upstream: { 'requests-per-second': 50 } });
  const free = clientOf(t, upstream.url, { options: { queueTimeoutMs: 0 } });
  for (let count = 0; count < 60; count++) {
    await slow.headBlob({ repository, digest }, soon());
    await free.headBlob({ repository, digest }, soon());
  }
  t.equal(upstream.log.length, 120);
});

t.test('who leaves while it waits leaves its turn to others', async (t) => {
  const upstream = await startUpstream(t);
  const digest = digestOf(BYTES);
  upstream.addBlob(repository, BYTES);
  const client = clientOf(t, upstream.url, { upstream: { 'requests-per-second': 2 } });
  for (let round = 0; round < 40; round++) {
    const gone = new AbortController();
    const asked = [1, 2, 3, 4].map(() => client.headBlob({ repository, digest }, gone.signal));
    setImmediate(() => gone.abort(new Error('went away')));
    await Promise.allSettled(asked);
  }
  await client.headBlob({ repository, digest }, soon());
  t.equal(upstream.log.at(-1)?.method, 'HEAD', 'it waited for few');
});

t.test('what nobody wants any more leaves the queue, and what was sent ends', async (t) => {
  const upstream = await startUpstream(t);
  const digest = digestOf(BYTES);
  upstream.addBlob(repository, BYTES);
  upstream.misbehave({ kind: 'blob', does: { type: 'delay', ms: 50 } });
  const client = clientOf(t, upstream.url, { upstream: { 'requests-per-second': 1 } });
  const leaver = new AbortController();
  const { signal: unwanted } = leaver;
  const sent = client.headBlob({ repository, digest, unwanted }, soon());
  const reference = { kind: 'digest', digest } as const;
  const waiting = [
    client.headBlob({ repository, digest, unwanted }, soon()),
    client.headManifest({ repository, reference, unwanted }, soon()),
    client.listTags({ repository, unwanted }, soon()),
  ];
  const settled = Promise.allSettled(waiting);
  await until(() => upstream.log.length === 1, 'the first is sent');
  const reason = new CodedError('TIMEOUT', { message: 'nobody waits' });
  leaver.abort(reason);
  for (const one of await settled) t.equal(one.status === 'rejected' && one.reason, reason);
  t.same(await sent, { sizeBytes: BYTES.length });
  await t.rejects(client.listTags({ repository, unwanted }, soon()), reason);
  t.equal(upstream.log.length, 1);
});

/** Turns on a clock of the test's; `sent` says who got one, in order. */
function turnsOf(perSecond: number): {
  readonly sent: string[];
  readonly refused: unknown[];
  readonly ask: (lane: string, signal?: AbortSignal) => Promise<void>;
} {
  const turns = new RequestTurns({ ...FOR, perSecond });
  const sent: string[] = [];
  const refused: unknown[] = [];
  const ask = async (lane: string, signal = soon()): Promise<void> => {
    await turns.take(signal, lane).then(
      () => sent.push(lane),
      (error: unknown) => refused.push(error),
    );
  };
  return { sent, refused, ask };
}

/** Lets everything settle that waits for no timer. */
async function settle(): Promise<void> {
  for (let count = 0; count < 20; count++) await Promise.resolve();
}

t.test('repositories take turns; no more wait than are sent in 5 s', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  const { sent, refused, ask } = turnsOf(2);
  for (let count = 0; count < 11; count++) void ask('herd');
  void ask('other');
  await settle();
  t.same(sent, ['herd', 'herd'], 'as many as in a second go at once');
  void ask('third');
  await settle();
  t.equal(refused.length, 1);
  t.ok(isCoded(refused[0], 'UPSTREAM_LIMITED'));
  t.match(refused[0], { detail: { upstream: 'hub', retryAfterSeconds: 5 } });
  mock.timers.tick(999);
  await settle();
  t.equal(sent.length, 2, 'not before a second is over');
  mock.timers.tick(1);
  await settle();
  t.same(sent.slice(2).sort(), ['herd', 'other']);
  for (let second = 0; second < 4; second++) {
    mock.timers.tick(1_000);
    await settle();
    t.equal(sent.length, 6 + 2 * second);
  }
});

t.test('who goes on its way to a turn holds up nobody', async (t) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.teardown(() => mock.timers.reset());
  const { sent, refused, ask } = turnsOf(1);
  const gone = new AbortController();
  void ask('first');
  for (let count = 0; count < 5; count++) void ask('gone', gone.signal);
  await settle();
  gone.abort(new Error('went away'));
  void ask('next');
  await settle();
  t.equal(refused.length, 5);
  mock.timers.tick(1_000);
  await settle();
  t.same(sent, ['first', 'next']);
});

t.test('bodies that last leave connections to small questions', async (t) => {
  const upstream = await startUpstream(t);
  const digest = upstream.addBlob(repository, BYTES);
  upstream.misbehave({ kind: 'blob', method: 'GET', does: { type: 'stall', afterBytes: 1 } });
  const client = clientOf(t, upstream.url, {
    upstream: { 'max-connections': 8 },
    options: { bodyTimeoutMs: 60_000 },
  });
  const gone = new AbortController();
  const bodies = Array.from({ length: 9 }, () => client.getBlob({ repository, digest }, gone.signal));
  const waiting = Promise.allSettled(bodies);
  await until(() => upstream.requests('blob', 'GET').length >= 7, 'bodies have come as far as they do');
  t.match(await client.headBlob({ repository, digest }, soon()), { sizeBytes: BYTES.length });
  t.equal(upstream.requests('blob', 'GET').length, 7, 'no more than seven bodies');
  const reason = new CodedError('TIMEOUT');
  gone.abort(reason);
  const outcomes = await waiting;
  t.same(
    outcomes.map(({ status }) => status),
    [...Array.from({ length: 7 }, () => 'fulfilled'), 'rejected', 'rejected'],
  );
  upstream.behave();
  const { body } = await client.getBlob({ repository, digest }, soon());
  t.ok(BYTES.equals(await readAll(body)), 'what was held is free again');
});
