import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { digestOf } from '@sepia/base/digest';
import { createDispatcher } from '@sepia/http/sockets';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';
import { TorrentClient } from '../../src/registry/torrent-client.ts';

const DIGEST = digestOf(Buffer.from('a blob'));
const PATH = `/v1/blobs/${DIGEST}/torrent`;
const TORRENT = { status: 200, type: 'application/x-bittorrent', body: 'd4:infode' };
const READING = {
  status: 503,
  type: 'application/json',
  retryAfter: '0.01',
  body: '{"errors":[{"code":"UNAVAILABLE","message":"the blob is being read"}]}',
};

interface Said {
  readonly status: number;
  readonly type: string;
  readonly retryAfter?: string;
  readonly body: string;
}

/** A tracker that says one thing after the other, the last for ever. */
async function fakeTracker(t: Test, said: readonly Said[]) {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    const { status, type, retryAfter, body } = said[Math.min(asked.length, said.length - 1)]!;
    asked.push(request.url!);
    response.writeHead(status, {
      'content-type': type,
      ...(retryAfter === undefined ? {} : { 'retry-after': retryAfter }),
    });
    response.end(body);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  return { tracker: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, asked };
}

function clientOf(t: Test, tracker: string, waitMs = 60_000): TorrentClient {
  const dispatcher = createDispatcher();
  t.teardown(() => dispatcher.destroy());
  return new TorrentClient({ dispatcher }, { tracker, waitMs, nowMs: () => performance.now() });
}

t.test('it asks again while an origin reads the blob, and names blob, repository and upstream', async (t) => {
  const { tracker, asked } = await fakeTracker(t, [READING, READING, TORRENT]);
  const name = { digest: DIGEST, repository: 'team/app', upstream: 'harbor.example' };
  t.equal(String(await clientOf(t, tracker).torrent(name)), TORRENT.body);
  t.equal(asked.length, 3);
  for (const url of asked)
    t.equal(decodeURIComponent(url), `${PATH}?upstream=harbor.example&repository=team/app`);
});

t.test('the time to ask again has an end, and a refusal is told at once', async (t) => {
  const name = { digest: DIGEST, repository: 'team/app', upstream: undefined };
  const reading = await fakeTracker(t, [{ ...READING, retryAfter: '20' }]);
  const gone = new AbortController();
  const asking = clientOf(t, reading.tracker).torrent(name, gone.signal);
  await until(() => reading.asked.length === 1, 'it was asked');
  gone.abort(new Error('gone'));
  await t.rejects(asking, { message: 'gone' });
  await t.rejects(clientOf(t, reading.tracker, 1_000).torrent(name), { message: /the blob is being read/ });
  t.equal(reading.asked.length, 2);

  const refused = {
    status: 403,
    type: 'application/json',
    body: '{"errors":[{"message":"strangers: never"}]}',
  };
  const refusing = await fakeTracker(t, [refused]);
  await t.rejects(clientOf(t, refusing.tracker).torrent(name), { message: /strangers: never/ });
  t.same(refusing.asked.map(decodeURIComponent), [`${PATH}?repository=team/app`]);
});

t.test('whoever is no tracker is told so', async (t) => {
  const name = { digest: DIGEST, repository: 'team/app', upstream: undefined };
  const page = await fakeTracker(t, [{ status: 200, type: 'text/html', body: '<p>hello' }]);
  const told = { code: 'PEER_HTTP', message: /--tracker URL/ };
  await t.rejects(clientOf(t, page.tracker).torrent(name), told);
  await t.rejects(clientOf(t, 'http://127.0.0.1:1').torrent(name), told);
});
