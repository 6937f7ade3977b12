import { randomBytes } from 'node:crypto';
import { digestOf } from '@sepia/base/digest';
import { getChecked } from '@sepia/test-support/clients/registry-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import t from 'tap';
import { request } from 'undici';

const PLACES = 2;

t.test('an origin without a place for an upload hands on to the others, until none has one', async (t) => {
  await using cluster = await Constellation.start(t.testdir(), {
    origins: 3,
    proxies: 1,
    trackers: 0,
    agents: 0,
    origin: { 'max-uploads': PLACES, 'max-uploads-per-client': PLACES },
  });
  const proxy = cluster.proxyUrls[0]!;
  const call = async (method: 'POST' | 'PATCH' | 'PUT', url: string, body?: Buffer) => {
    const answer = await request(new URL(url, proxy), { method, ...(body === undefined ? {} : { body }) });
    await answer.body.dump();
    return { status: answer.statusCode, location: String(answer.headers['location']) };
  };
  const begin = async () => {
    const begun = await call('POST', '/v2/team/app/blobs/uploads/');
    // A session with bytes keeps its place.
    return begun.status === 202 ? await call('PATCH', begun.location, Buffer.from('abc')) : begun;
  };
  const open = [];
  for (let at = 0; at < 3 * PLACES; at++) open.push(await begin());
  t.same(
    open.map(({ status }) => status),
    open.map(() => 202),
    'twice as many as one origin has places for, and twice again',
  );
  t.equal((await begin()).status, 429, 'no origin has a place');

  const rest = randomBytes(5_000);
  const whole = Buffer.concat([Buffer.from('abc'), rest]);
  const digest = digestOf(whole);
  const { location } = await call('PATCH', open[0]!.location, rest);
  const closing = `${location}${location.includes('?') ? '&' : '?'}digest=${digest}`;
  t.equal((await call('PUT', closing)).status, 201, 'those that are open come to their end');
  await getChecked(`${proxy}/v2/team/app/blobs/${digest}`, digest);
  t.equal((await begin()).status, 202, 'its place is free again');
});
