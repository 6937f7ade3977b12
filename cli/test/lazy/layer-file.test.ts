import { readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { digestOf } from '@sepia/base/digest';
import t from 'tap';
import { writeTar } from '../../../shared/lazy/test/support/tar-writer.ts';
import { indexFile, readIndexFile, saveIndex } from '../../src/lazy/layer-file.ts';

const SPANS = { spanBytes: 1024 * 1024 };

t.test('an index of a file is made, saved and read again', async (t) => {
  const dir = t.testdir();
  const blob = gzipSync(writeTar([{ name: 'etc/passwd', payload: Buffer.from('root') }]));
  writeFileSync(join(dir, 'layer'), blob);
  const made = await indexFile(join(dir, 'layer'), SPANS);
  await saveIndex(join(dir, 'index'), made.bytes);
  await saveIndex(join(dir, 'index'), made.bytes);
  t.ok(readFileSync(join(dir, 'index')).equals(made.bytes));
  const index = await readIndexFile(join(dir, 'index'));
  t.equal(index.layer, digestOf(blob));
  t.equal(index.entries[0]!.path, 'etc/passwd');
});

t.test('refusals name the file and the reason', async (t) => {
  const dir = t.testdir({ text: 'no tar', empty: '' });
  const file = (name: string, bytes: Buffer): string => {
    writeFileSync(join(dir, name), bytes);
    return join(dir, name);
  };
  await t.rejects(indexFile(join(dir, 'none'), SPANS), {
    code: 'REQUEST_INVALID',
    message: /none cannot be read: ENOENT/,
  });
  await t.rejects(indexFile(dir, SPANS), {
    code: 'REQUEST_INVALID',
    message: /is a folder; name the file of one layer \(of an OCI layout: below blobs/,
  });
  await t.rejects(readIndexFile(dir), {
    code: 'REQUEST_INVALID',
    message: /is a folder; name an index file/,
  });
  await t.rejects(indexFile(join(dir, 'text'), SPANS), {
    code: 'LAYER_INVALID',
    message: /text: tar archive is cut/,
  });
  const sparse = file('sparse', writeTar([{ name: 'a/sparse', typeFlag: 'S' }]));
  await t.rejects(indexFile(sparse, SPANS), {
    code: 'LAYER_NOT_LAZY',
    message: /sparse: .*\(sparse-file: a\/sparse\)/,
  });
  const link = file('link', writeTar([{ name: 'h', typeFlag: '1', linkName: 'below' }]));
  await t.rejects(indexFile(link, SPANS), {
    code: 'LAYER_NOT_LAZY',
    message: /hard-link-into-another-layer: h/,
  });
  await t.rejects(readIndexFile(join(dir, 'text')), {
    code: 'INDEX_INVALID',
    message: /text: layer index is not valid/,
  });
  t.ok(statSync(join(dir, 'empty')).size === 0);
});
