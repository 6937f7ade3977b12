import { copyFileSync, renameSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { readIndexSpans } from '@sepia/lazy/index/layer-index';
import { LayerIndexer } from '@sepia/lazy/index/layer-indexer';
import t from 'tap';
import { writeTar } from '../../../shared/lazy/test/support/tar-writer.ts';
import { IndexFile } from '../../src/layers/index-file.ts';
import { unread } from '../support/unread.ts';

t.test('a read between whose parts another one puts a new file in place goes on with that', async (t) => {
  const path = join(t.testdir(), 'index');
  const indexer = new LayerIndexer({ spanBytes: 20_000 });
  indexer.push(gzipSync(writeTar([{ name: 'file', payload: Buffer.from('text') }])));
  writeFileSync(path, indexer.end().bytes);
  const index = await IndexFile.open(path);
  t.teardown(async () => await index.close());
  const head = await index.head();
  await unread(t, path);
  copyFileSync(path, `${path}.new`);
  renameSync(`${path}.new`, path);

  const any = await open(path);
  const files = Object.getPrototypeOf(any) as { stat: () => Promise<object> };
  await any.close();
  const { stat } = files;
  files.stat = async function (this: typeof any) {
    files.stat = stat;
    const facts = await stat.call(this);
    t.ok((await index.head()).equals(head), 'meanwhile another reads');
    return facts;
  };
  t.equal(await index.image(readIndexSpans(head)), undefined, 'no image is behind it');
});
