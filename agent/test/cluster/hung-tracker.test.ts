import { digestOf } from '@sepia/base/digest';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { Cluster } from '@sepia/cluster/cluster';
import { parseClusterDocument } from '@sepia/cluster/load-document';
import type { InternalClient, InternalRequest } from '@sepia/http/client';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t, { type Test } from 'tap';
import { CallWatch } from '../../src/cluster/members.ts';
import { TrackerClient } from '../../src/cluster/tracker-client.ts';

const DIGEST = digestOf(Buffer.from('x'));
const NAME = { digest: DIGEST, upstream: 'local', repository: parseRepositoryName('app') };
const OPEN = Metainfo.open(DIGEST, 4 * PIECE_BYTES, '1'.repeat(32));
const HANGS = Number.POSITIVE_INFINITY;

/** Trackers by how long they take, in ms: for news, and for a small question; the first of them is asked first. */
function trackersOf(t: Test, takeMs: readonly { readonly news: number; readonly small: number }[]) {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const members = takeMs.map((_, at) => ({
    id: `tracker-${at + 1}`,
    role: 'tracker',
    urls: [`http://127.0.0.1:${at + 1}`],
  }));
  const document = { version: 1, members, upstreams: [{ name: 'local', mode: 'none', hosts: [] }] };
  const cluster = new Cluster(parseClusterDocument(JSON.stringify(document), 'cluster.yaml'));
  const order = cluster.trackers(DIGEST).map(({ id }) => id);
  const after = async <T>(ms: number, value: T, signal: AbortSignal | undefined): Promise<T> =>
    await new Promise((resolve, reject) => {
      if (ms !== HANGS) setTimeout(resolve, ms, value);
      signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
    });
  const timesOf = (id: string) => takeMs[order.indexOf(id)]!;
  const polled: { readonly from: number; readonly atMs: number }[] = [];
  const client = {
    bytes: async ({ to, signal }: InternalRequest) => {
      const from = order.indexOf(to);
      polled.push({ from, atMs: time.elapsedMs });
      const answer = { status: 200, bytes: OPEN.encode(), headers: { etag: `of ${from}` } };
      return await after(timesOf(to).news, answer, signal);
    },
    raw: async ({ to, signal }: InternalRequest) =>
      await after(timesOf(to).small, { status: 404, headers: {}, body: { dump: async () => {} } }, signal),
  } as unknown as InternalClient;
  const health = new CallWatch(() => performance.now(), client);
  const trackers = new TrackerClient({ cluster, client, health });
  const poll = async () => {
    const waits = { waitMs: 10_000, doubtMs: 300 };
    const news = await time.settle(trackers.poll(NAME, OPEN, '', waits, new AbortController().signal));
    return news?.etag;
  };
  return { time, polled, poll };
}

t.test(
  'a tracker that hangs: the next is asked beside it within a second, and first from then on',
  async (t) => {
    const { time, polled, poll } = trackersOf(t, [
      { news: HANGS, small: HANGS },
      { news: 5, small: 1 },
    ]);
    t.equal(await poll(), 'of 1');
    t.equal(time.elapsedMs, 805);
    t.equal(await poll(), 'of 1');
    t.equal(time.elapsedMs, 810);
    t.same(
      polled.map(({ from, atMs }) => [from, atMs]),
      [
        [0, 0],
        [1, 800],
        [1, 805],
      ],
    );
  },
);

t.test('one that was doubted wrongly is believed all the same, if its news come first', async (t) => {
  const { time, polled, poll } = trackersOf(t, [
    { news: 1_500, small: 900 },
    { news: HANGS, small: HANGS },
  ]);
  t.equal(await poll(), 'of 0');
  t.equal(time.elapsedMs, 1_500);
  t.same(
    polled.map(({ from }) => from),
    [0, 1],
  );
});

t.test('one without a second is waited for, however late it is with small questions', async (t) => {
  const { time, polled, poll } = trackersOf(t, [{ news: 9_000, small: HANGS }]);
  t.equal(await poll(), 'of 0');
  t.equal(time.elapsedMs, 9_000);
  t.equal(polled.length, 1);
});

t.test('where all are late each is asked once, and none is given up', async (t) => {
  const { time, polled, poll } = trackersOf(t, [
    { news: 7_000, small: 6_000 },
    { news: 7_000, small: 6_000 },
  ]);
  for (let round = 1; round <= 3; round++) {
    const sinceMs = time.elapsedMs;
    t.ok(await poll());
    t.equal(time.elapsedMs - sinceMs, 7_000);
    t.ok(polled.length <= 2 * round, `${polled.length} polls`);
  }
});
