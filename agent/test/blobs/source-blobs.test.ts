import { Bitfield } from '@sepia/base/bitfield';
import { digestOf } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { until } from '@sepia/test-support/until';
import type { UpstreamClient } from '@sepia/upstream/upstream-client';
import t from 'tap';
import { SourceBlobs } from '../../src/blobs/source-blobs.ts';
import type { Download } from '../../src/downloads/download.ts';
import { BackToSource } from '../../src/source/back-to-source.ts';
import { SourceGate } from '../../src/source/source-gate.ts';

const NAME: BlobName = {
  upstream: 'up',
  repository: parseRepositoryName('team/app'),
  digest: digestOf(Buffer.from('a blob')),
};
const CAUSE = new Error('nobody answers');

for (const how of ['begin', 'goOn'] as const)
  t.test(`an upstream that says nothing holds no turn of a download that is over (${how})`, async (t) => {
    let turns = 0;
    let isAsked = false;
    const client = {
      getBlob: async (_asked: unknown, signal: AbortSignal) => {
        isAsked = true;
        await new Promise((_resolve, reject) =>
          signal.addEventListener('abort', () => reject(signal.reason), { once: true }),
        );
      },
    } as unknown as UpstreamClient;
    const source = {
      enter: async () => {
        turns += 1;
        return () => {
          turns -= 1;
        };
      },
      ask: async () => ({ sizeBytes: 10, client }),
    };
    const blobs = new SourceBlobs({
      source: source as never,
      log: silentLogger(),
      stopped: new AbortController().signal,
    });
    const over = Promise.withResolvers<void>();
    const download = {
      ended: over.promise,
      state: 'failed',
      sizeBytes: 10,
      partial: { sizeBytes: 10, have: new Bitfield(1) },
      fail: () => undefined,
    } as unknown as Download;
    if (how === 'begin') await blobs.begin(NAME, CAUSE, 10, async () => download);
    else blobs.goOn(NAME, download, CAUSE);
    await until(() => isAsked, 'the upstream is asked');
    t.equal(turns, 1);
    over.resolve();
    await until(() => turns === 0, 'its turn is given back');
  });

t.test('what waits until the upstream may be asked takes no turn of others', async (t) => {
  const gate = new SourceGate(1);
  const source = new BackToSource(
    {
      cluster: { upstream: () => ({ url: 'http://up.example' }) } as never,
      ...{ gate, nodeId: 'n1', nowMs: () => 0 },
      upstreamClient: () => {
        throw new TypeError('asked too early');
      },
    },
    { mode: 'auto', afterMs: 3_600_000 },
  );
  const stop = new AbortController();
  const blobs = new SourceBlobs({ source, log: silentLogger(), stopped: stop.signal });
  const begun = blobs.begin(NAME, CAUSE, 10, async () => t.fail('begun too early') as never);
  const stopped = t.rejects(begun, { message: 'stopped' });
  const entered = await Promise.race([
    gate.enter('blob', new AbortController().signal).then(() => 'entered'),
    new Promise((resolve) => setImmediate(() => setImmediate(resolve, 'waits'))),
  ]);
  t.equal(entered, 'entered');
  stop.abort(new Error('stopped'));
  await stopped;
});
