import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { writeTar } from '../../../shared/lazy/test/support/tar-writer.ts';
import { sepia } from '../support/sepia.ts';

t.test('to index: nothing is converted, the layer is indexed', async (t) => {
  const dir = t.testdir();
  const [layer, made] = [join(dir, 'layer.tar.gz'), join(dir, 'made.lazy')];
  writeFileSync(layer, gzipSync(writeTar([{ name: 'a' }])));
  const done = await sepia('convert', layer, made, '--to', 'index');
  t.equal(done.code, 0, done.err);
  t.match((await sepia('lazy', 'show', made)).out, /entries +1\n/);
  const idle = await sepia('convert', layer, made, '--to', 'index', '--chunk-size', '4096');
  t.equal(idle.code, 2);
  t.match(idle.err, /CONFIG_INVALID: --to index: .*--chunk-size/);
  const image = await sepia('convert', 'team/app:1', '--to', 'index', '--cluster', join(dir, 'none'));
  t.match(image.err, /CONFIG_INVALID: .* no cluster is ready here/, 'an image: the cluster is asked');
  const unused = await sepia('lazy', 'index', 'team/app:1', '--user', 'me', '--cluster', join(dir, 'none'));
  t.equal(unused.code, 2);
  t.match(unused.err, /CONFIG_INVALID: --user: counts with --out only/, 'an account is not ignored');
});
