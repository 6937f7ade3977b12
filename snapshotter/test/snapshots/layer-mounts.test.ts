import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { LayerMounts } from '../../src/snapshots/layer-mounts.ts';

t.test('a mount is told from a folder, and from none', async (t) => {
  const dir = t.testdir();
  const mounts = new LayerMounts({ source: dir });
  mkdirSync(join(dir, 'fs'));
  t.notOk(await mounts.isThere(join(dir, 'fs')));
  t.notOk(await mounts.isThere(join(dir, 'no/fs')));
  t.ok(await mounts.isThere('/proc'));
});
