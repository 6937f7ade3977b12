import { mkdirSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import { type Digest, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import type { LayerBinding } from '@sepia/cluster/api/layer-binding';
import { createDispatcher } from '@sepia/http/sockets';
import { LayerIndexer } from '@sepia/lazy/index/layer-indexer';
import t from 'tap';
import { noise } from '../../../shared/lazy/test/support/arbitrary-gzip.ts';
import { writeTar } from '../../../shared/lazy/test/support/tar-writer.ts';
import { IndexFolder } from '../../src/layers/index-folder.ts';
import { Layers } from '../../src/layers/layers.ts';
import { openForPull, openOffers } from '../../src/offers/open-offers.ts';
import { Grants } from '../../src/snapshots/core/grants.ts';

const TAR = writeTar([{ name: 'bin', payload: noise(1, 90_000) }]);
const BLOB = gzipSync(TAR);
const NEVER = new AbortController().signal;
const IMAGE = { upstream: 'hub', repository: 'team/one' };

function indexed(spanBytes: number): Buffer {
  const indexer = new LayerIndexer({ spanBytes });
  indexer.push(BLOB);
  return Buffer.from(indexer.end().bytes);
}

t.test('a layer that is to make room stays, and its index, while a pull gets another index', async (t) => {
  const dir = t.testdir();
  for (const folder of ['indexes', 'layers']) mkdirSync(join(dir, folder));
  const indexes = new IndexFolder(join(dir, 'indexes'));
  const [one, other] = [indexed(20_000), indexed(40_000)];
  const gate = Promise.withResolvers<void>();
  const asked = Promise.withResolvers<void>();
  const read = async ({ digest }: { digest: string }): Promise<Buffer> => {
    if (digest === digestOf(one)) return one;
    asked.resolve();
    await gate.promise;
    return other;
  };
  const source = { read, readIfThere: read };
  const layers = new Layers(
    { log: silentLogger(), source, onFetched: () => undefined },
    { dir: join(dir, 'layers'), bootId: 'b'.repeat(36) },
  );
  t.teardown(() => layers.close());
  const pull = async (bytes: Buffer) => {
    const index = digestOf(bytes);
    const binding = { index, indexBytes: bytes.length, home: IMAGE } as unknown as LayerBinding;
    const layer = { digest: digestOf(BLOB) as Digest, diffId: digestOf(TAR), binding };
    return await openForPull({ layers, indexes, source }, IMAGE, layer, NEVER);
  };
  const first = await pull(one);
  let isLeaving = true;
  const used = (): void => {
    isLeaving = false;
  };
  layers.follow({ used });
  const second = pull(other);
  await asked.promise;
  const nothing = async (): Promise<void> => undefined;
  const removal = isLeaving
    ? layers.remove(first, nothing, indexes.forgetting(first.index.layer))
    : undefined;
  gate.resolve();
  await removal;
  t.equal(await second, first);
});

t.test('a complaint names the index that the layer was opened with, to the agent of the node', async (t) => {
  const dir = t.testdir();
  for (const folder of ['indexes', 'layers']) mkdirSync(join(dir, folder));
  const indexes = new IndexFolder(join(dir, 'indexes'));
  const [bad, later] = [indexed(20_000), indexed(40_000)];
  const read = async ({ digest }: { digest: string }): Promise<Buffer> =>
    digest === digestOf(bad) ? bad : later;
  const source = { read, readIfThere: read };
  const layers = new Layers(
    { log: silentLogger(), source, onFetched: () => undefined },
    { dir: join(dir, 'layers'), bootId: 'b'.repeat(36) },
  );
  t.teardown(() => layers.close());
  const told = Promise.withResolvers<unknown>();
  const server = createServer((request, response) => {
    // Who asks for offers waits until the end.
    if (request.url?.startsWith('/v1/lazy/complaints') !== true) return;
    text(request).then(
      (body) => {
        told.resolve(JSON.parse(body));
        response.setHeader('content-type', 'application/json').end('{}');
      },
      (error: unknown) => told.reject(error),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const dispatcher = createDispatcher();
  const offers = await openOffers(
    {
      config: {
        data: dir,
        agent: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
        nydus: 'leave',
      },
      ...{ dispatcher, source, indexes, layers, findable: undefined, grants: new Grants() },
      ...{ show: async () => undefined, expectStart: () => undefined, log: silentLogger() },
    },
    Buffer.alloc(32, 1),
  );
  t.teardown(async () => {
    server.closeAllConnections();
    server.close();
    await offers.stop();
    await dispatcher.destroy();
  });
  const open = async (bytes: Buffer) => {
    const binding = {
      index: digestOf(bytes),
      indexBytes: bytes.length,
      home: IMAGE,
    } as unknown as LayerBinding;
    const layer = { digest: digestOf(BLOB) as Digest, diffId: digestOf(TAR), binding };
    return await openForPull({ layers, indexes, source }, IMAGE, layer, NEVER);
  };
  const layer = await open(bad);
  t.equal(await open(later), layer, 'another index came on record, and is kept');
  offers.complain(layer, new CodedError('DIGEST_MISMATCH', { message: 'it does not fit' }));
  t.same(await told.promise, {
    ...IMAGE,
    layer: digestOf(BLOB),
    index: digestOf(bad),
    reason: 'it does not fit',
  });
});
