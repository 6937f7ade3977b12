import { join } from 'node:path';
import { run } from '@sepia/test-support/testbed';
import t from 'tap';
import { mountHeldLayer, whyNoMount } from './support/held-layer.ts';

const OPTIONS = { skip: whyNoMount() ?? false, timeout: 600_000 };

t.test('files that programs read are told in the order of their first reads', OPTIONS, async (t) => {
  const { daemon, tree } = await mountHeldLayer(t, 8, '60s');
  for (const index of [5, 2, 5]) t.equal((await run('sha256sum', [join(tree, `file-${index}`)])).code, 0);
  const read = await daemon.filesRead();
  // What the kernel reads ahead may be there too: of a neighbour, not of more.
  t.same(
    read.filter((path) => ['file-5', 'file-2'].includes(path)),
    ['file-5', 'file-2'],
  );
  t.notOk(read.includes('file-7'), read.join());
});
