import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '@sepia/test-support/testbed';
import t from 'tap';
import { mountHeldLayer, whyNoMount } from './support/held-layer.ts';

const OPTIONS = { skip: whyNoMount() ?? false, timeout: 600_000 };

t.test('files that programs read are told in the order of their first reads', OPTIONS, async (t) => {
  const { daemon, tree } = await mountHeldLayer(t, 8, { readDeadline: '60s' });
  for (const index of [5, 2, 5]) t.equal((await run('sha256sum', [join(tree, `file-${index}`)])).code, 0);
  const read = await daemon.filesRead();
  // What the kernel reads ahead may be there too: of a neighbour, not of more.
  t.same(
    read.filter((path) => ['file-5', 'file-2'].includes(path)),
    ['file-5', 'file-2'],
  );
  t.notOk(read.includes('file-7'), read.join());
});

t.test('on a full disk programs read on, and what they read is right', OPTIONS, async (t) => {
  const { daemon, tree, files } = await mountHeldLayer(t, 8, { readDeadline: '60s', diskMiB: 8 });
  for (const [index, file] of files.entries())
    t.ok((await readFile(join(tree, `file-${index}`))).equals(file), `file-${index}`);
  t.match(await daemon.readyz(), /warning: the disk of .* is full, read-only or fails: .*make room/);
  const fetched = await daemon.fetchedBytes();
  t.ok((await readFile(join(tree, 'file-7'))).equals(files[7]!), 'read again');
  t.comment(`${(await daemon.fetchedBytes()) - fetched} bytes were fetched for it`);
});
