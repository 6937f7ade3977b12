import { digestOf } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import t from 'tap';
import { imageOf } from '../../src/erofs/image-part.ts';
import { layerEntry } from '../../src/index/layer-entry.ts';
import { tarEntries } from '../../src/tar/tar-reader.ts';
import { type TarPart, writeTar } from '../support/tar-writer.ts';

const DIFF_ID = digestOf(Buffer.from('layer'));
const CAPABILITY = new Map([['security.capability', Buffer.alloc(20, 1)]]);
const file: TarPart = { name: 'file', mode: 0o4755, uid: 1, payload: Buffer.from('bytes') };
const link: TarPart = { name: 'link', typeFlag: '1', linkName: 'file', mode: 0o4755, uid: 1 };

function reasonOf(...parts: TarPart[]): unknown {
  try {
    imageOf({ kind: 'layer', diffId: DIFF_ID, entries: tarEntries(writeTar(parts)).map(layerEntry) });
    return undefined;
  } catch (error) {
    if (!isCoded(error, 'LAYER_NOT_LAZY')) throw error;
    return error.detail['reason'];
  }
}

t.test('a hard link whose entry would change its file makes a layer ordinary', async (t) => {
  const other = 'hard-link-with-other-attributes';
  t.equal(reasonOf(file, link), undefined);
  t.equal(reasonOf(file, { ...link, mtimeSec: 77 }), undefined, 'a time is only a time');
  t.equal(reasonOf(file, { ...link, mode: 0o755 }), other, 'unpacked it has no setuid bit');
  t.equal(reasonOf(file, { ...link, uid: 0 }), other);
  t.equal(reasonOf(file, { ...link, gid: 5 }), other);
  t.equal(reasonOf({ ...file, xattrs: CAPABILITY }, link), other, 'a new owner takes capabilities away');
  t.equal(reasonOf({ ...file, xattrs: CAPABILITY }, { ...link, xattrs: CAPABILITY }), undefined);
  t.equal(reasonOf(file, { ...link, xattrs: CAPABILITY }), other);
  t.equal(reasonOf(file, link, { ...link, name: 'next', linkName: 'link', mode: 0o755 }), other);
  const soft: TarPart = { name: 'file', typeFlag: '2', linkName: 'x', mode: 0o777, uid: 1 };
  t.equal(reasonOf(soft, link), undefined, 'a symbolic link has no mode');
});
