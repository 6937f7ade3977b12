import { symlinkSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { openArchive } from '../../src/image/archive.ts';
import { loadImage } from '../../src/image/load-image.ts';

t.test('a folder of docker save sends no file that its links lead to elsewhere', async (t) => {
  const root = t.testdir({
    secret: 'of this machine',
    saved: {
      'config.json': '{}',
      'layer.tar': 'a layer',
      'manifest.json': JSON.stringify([{ Config: 'config.json', Layers: ['named.tar'] }]),
    },
  });
  const link = join(root, 'saved', 'named.tar');
  symlinkSync('layer.tar', link);
  const load = async (folder: string) => await loadImage(await openArchive(folder), { tag: 'v1' });
  t.equal((await load(join(root, 'saved'))).blobs.length, 2, 'links within the folder are followed');
  symlinkSync('saved', join(root, 'by-link'));
  t.equal((await load(join(root, 'by-link'))).blobs.length, 2, 'the folder itself may be a link');
  unlinkSync(link);
  symlinkSync('../secret', link);
  await t.rejects(load(join(root, 'saved')), {
    code: 'REQUEST_INVALID',
    message: /named\.tar is a link out of/,
  });
});
