import { createHash } from 'node:crypto';
import type { Digest } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import t from 'tap';
import { BATCH_RECORDS } from '../../src/records/own-records.ts';
import { startCluster, type TestCluster } from '../support/cluster.ts';

const LOCAL = 'upstream=local&repository=team/large';
const CALL = /^sepia_origin_http_request_seconds_count\{.*route="records/;
const LAYERS = 19_000;
/** Batches that its links are read and written in. */
const BATCHES = LAYERS / BATCH_RECORDS;
/** To another origin for each batch: its links are looked up, written, and looked up again, for deletes between; and a few more. */
const MOST_CALLS = BATCHES * 3 + 10;

const digestNumber = (number: number): Digest =>
  `sha256:${createHash('sha256').update(String(number)).digest('hex')}` as Digest;

/** How many requests of other members about links an origin has answered. */
async function linkCalls(c: TestCluster, id: string): Promise<number> {
  const text = await c.admin(id, '/metrics');
  const lines = text.split('\n').filter((line) => CALL.test(line));
  return lines.reduce((sum, line) => sum + Number(line.split(' ').at(-1)), 0);
}

/** Asks these origins for a blob that is there, one question after the other, until its `end`: how often they answered. */
function askMeanwhile(c: TestCluster, ids: readonly string[]) {
  let isOver = false;
  const ask = async (id: string): Promise<number> => {
    let count = 0;
    while (!isOver) {
      const { status } = await c.get(id, `/v1/blobs/${digestNumber(0)}/where?${LOCAL}`);
      if (status !== 200 && status !== 503) throw new Error(`${id} answered ${status}`);
      // One that is too busy has not had its turn.
      if (status === 200) count += 1;
    }
    return count;
  };
  const asking = Promise.all(ids.map(ask));
  return {
    answered: asking.then((counts) => counts.reduce((sum, one) => sum + one, 0)),
    end: (): void => {
      isOver = true;
    },
  };
}

t.test(
  'a manifest of 19,000 layers is a few messages between origins, and others have their turn',
  async (t) => {
    const c = await startCluster(t, { origins: 3 });
    const layers = Array.from({ length: LAYERS }, (_, index) => ({
      mediaType: 'application/octet-stream',
      digest: digestNumber(index),
      size: 1,
    }));
    const records = layers.map(({ digest }) => ({ key: [digest], atMs: 1_000, value: { sizeBytes: 1 } }));
    for (const id of c.ids)
      for (const part of [records.slice(0, LAYERS / 2), records.slice(LAYERS / 2)]) {
        const put = await c.put(id, `/v1/records/links?${LOCAL}`, JSON.stringify({ records: part }), {
          'content-type': 'application/json',
        });
        t.equal(put.status, 200, put.bytes.toString());
      }
    const before = await Promise.all(c.ids.map(async (id) => await linkCalls(c, id)));
    const manifest = (extra: readonly object[]): Buffer =>
      Buffer.from(
        JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, layers: [...layers, ...extra] }),
      );
    const push = async (body: Buffer, tag: string) =>
      await c.put('o1', `/v1/manifests?${LOCAL}&reference=${tag}`, body, { 'content-type': OCI_MANIFEST });
    const others = askMeanwhile(c, ['o1', 'o2']);
    const pushed = await push(manifest([]), 'v1').finally(others.end);
    const answered = await others.answered;
    t.ok(answered >= BATCHES, `${answered} others were answered meanwhile`);
    t.equal(pushed.status, 201, pushed.bytes.toString().slice(0, 300));
    const after = await Promise.all(c.ids.map(async (id) => await linkCalls(c, id)));
    t.ok(after[1]! > before[1]!, 'calls are counted');
    for (const [index, id] of c.ids.entries())
      t.ok(
        after[index]! - before[index]! <= MOST_CALLS,
        `${id} answered ${after[index]! - before[index]!} calls`,
      );

    const gone = { mediaType: 'application/octet-stream', digest: digestNumber(-1), size: 1 };
    const refused = await push(manifest([gone]), 'v2');
    t.equal(refused.headers['sepia-error'], 'MANIFEST_BLOB_MISSING');
    t.match(refused.bytes.toString(), gone.digest);
  },
);

t.test('more entries than the limit are refused, of all kinds together', async (t) => {
  const c = await startCluster(t, { origins: 1 });
  const entry = { mediaType: 'application/octet-stream', digest: digestNumber(1), size: 1 };
  const body = JSON.stringify({
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    layers: Array.from({ length: 10_001 }, () => entry),
    blobs: Array.from({ length: 10_000 }, () => entry),
  });
  const answer = await c.put('o1', `/v1/manifests?${LOCAL}&reference=v1`, body, {
    'content-type': OCI_MANIFEST,
  });
  t.equal(answer.status, 400);
  t.match(answer.bytes.toString(), /more than 20000 entries/);
});
