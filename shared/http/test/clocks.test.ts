import { Readable } from 'node:stream';
import { MemberClock } from '@sepia/base/clock/member-clock';
import { silentLogger } from '@sepia/base/log';
import t, { type Test } from 'tap';
import { request } from 'undici';
import { createApp } from '../src/app.ts';
import { InternalClient, type InternalRequest } from '../src/client.ts';
import { createGate } from '../src/gate.ts';
import { HttpListener } from '../src/listener.ts';
import { CallVerifier, clocksOf, hashOf, signCall } from '../src/sign.ts';
import { createDispatcher } from '../src/sockets.ts';

const KEY = Buffer.alloc(32, 7);
const TEN_MINUTES_MS = 600_000;
/** What all clocks show that are right: they stand, however long a call takes on a busy machine. */
const NOW_MS = 1_800_000_000_000;
const HEADERS_MS = 60_000;

/** A member whose clock is off, and a client of it. `wallMs`: what its machine's clock shows, where that is another time. */
async function memberOff(t: Test, offMs: number, wallMs?: number) {
  const id = 'origin-1';
  let reached = 0;
  const gate = createGate({
    open: {},
    verifier: new CallVerifier({
      clusterKey: KEY,
      selfId: id,
      nowMs: () => NOW_MS + offMs,
      ...(wallMs && { wallMs: () => wallMs }),
    }),
  });
  const app = createApp({ log: silentLogger(), gate });
  app.use((ctx) => {
    reached += 1;
    ctx.req.resume();
    ctx.body = 'done';
  });
  const listener = await HttpListener.start(app.callback(), '127.0.0.1:0', 'listen');
  const dispatcher = createDispatcher();
  t.teardown(async () => {
    await dispatcher.destroy();
    await listener.stop(0);
  });
  const clock = new MemberClock({ wallMs: () => NOW_MS, steadyMs: () => NOW_MS });
  const client = new InternalClient({ dispatcher, clusterKey: KEY, memberId: 'agent-1', clock });
  const call = (more: Partial<InternalRequest> = {}): InternalRequest => ({
    url: listener.url,
    to: id,
    method: 'GET',
    path: '/v1/x',
    headersTimeoutMs: HEADERS_MS,
    ...more,
  });
  return { client, call, clock, url: listener.url, reached: () => reached };
}

for (const offMs of [TEN_MINUTES_MS, -TEN_MINUTES_MS])
  t.test(`a member whose clock is ${offMs / 1000} s off takes calls, and is named`, async (t) => {
    const { client, call, clock, reached } = await memberOff(t, offMs);
    t.equal((await client.bytes(call())).bytes.toString(), 'done');
    t.equal((await client.bytes(call({ method: 'POST', body: '{}' }))).bytes.toString(), 'done');
    t.equal(reached(), 2, 'each ran once');
    t.match(clock.warnings, [/^clock skew: the clock of origin-1 is 600 s (?:ahead of|behind)/]);
  });

t.test('a member that began a moment ago takes calls of who is behind: they are made again', async (t) => {
  const { client, call, reached } = await memberOff(t, 30_000);
  t.equal((await client.bytes(call())).bytes.toString(), 'done');
  t.equal((await client.bytes(call({ method: 'POST', body: '{}' }))).bytes.toString(), 'done');
  t.equal(reached(), 2, 'each ran once');
});

t.test('a streamed body is not sent twice; the next call bears the right date', async (t) => {
  const { client, call } = await memberOff(t, TEN_MINUTES_MS);
  const stream = () =>
    call({
      method: 'PUT',
      path: '/v1/uploads/u',
      body: Readable.from([Buffer.from('abc')]),
      headers: { 'content-length': '3' },
    });
  await t.rejects(client.bytes(stream()), {
    code: 'SIGNATURE_INVALID',
    message: /600 s behind this member's clock/,
  });
  t.equal((await client.bytes(stream())).bytes.toString(), 'done');
});

t.test('only who has the cluster key learns the time, and only from who is called', async (t) => {
  const { url } = await memberOff(t, TEN_MINUTES_MS, 1_000);
  const ask = async (key: Buffer, to: string) => {
    const call = { method: 'GET', path: '/v1/x', headers: {}, body: hashOf('') } as const;
    const authorization = signCall({ clusterKey: key, id: 'agent-1' }, to, call, NOW_MS);
    const answer = await request(`${url}/v1/x`, { headers: { authorization } });
    await answer.body.dump();
    return {
      told: { clock: answer.headers['sepia-clock'], wall: answer.headers['sepia-wall'] },
      authorization,
    };
  };
  t.same((await ask(Buffer.alloc(32, 8), 'origin-1')).told, { clock: undefined, wall: undefined });
  const { told, authorization } = await ask(KEY, 'origin-1');
  const found = clocksOf(KEY, 'origin-1', authorization, told);
  t.same(found, { dateMs: NOW_MS + TEN_MINUTES_MS, wallMs: 1_000 });
  t.equal(clocksOf(KEY, 'origin-2', authorization, told), undefined, 'of another member');
  t.equal(clocksOf(Buffer.alloc(32, 8), 'origin-1', authorization, told), undefined, 'with another key');
  const other = await ask(KEY, 'origin-1');
  t.equal(clocksOf(KEY, 'origin-1', other.authorization, told), undefined, 'of another call: a replay');
  t.equal(clocksOf(KEY, 'origin-1', authorization, { clock: 'date=1,sig=2' }), undefined);
  const swapped = { clock: told.clock, wall: told.clock };
  t.equal(clocksOf(KEY, 'origin-1', authorization, swapped)?.wallMs, undefined, 'one for the other');
});

t.test('a member that works in a time that no machine shows any longer is followed by nobody', async (t) => {
  const { client, call, clock } = await memberOff(t, -TEN_MINUTES_MS, NOW_MS);
  t.equal((await client.bytes(call())).bytes.toString(), 'done');
  t.equal(clock.nowMs(), NOW_MS);
  t.same(clock.warnings, [], 'their machines agree');
});
