import t from 'tap';
import {
  imageConflicts,
  impliedDirectories,
  lowestConflict,
  outlineOf,
} from '../../src/erofs/image-conflicts.ts';
import { layerTree } from '../../src/erofs/layer-tree.ts';
import { layerEntry } from '../../src/index/layer-entry.ts';
import { tarEntries } from '../../src/tar/tar-reader.ts';
import { type TarPart, writeTar } from '../support/tar-writer.ts';

function found(...layers: TarPart[][]): string[] {
  const trees = layers.map((parts) => layerTree(tarEntries(writeTar(parts)).map(layerEntry)));
  const conflicts = imageConflicts(trees);
  const implied = new Set(trees.flatMap(impliedDirectories));
  t.same(imageConflicts(trees.map((tree) => outlineOf(tree, implied))), conflicts, 'outlines are enough');
  return conflicts.map((one) => `${one.layer} ${one.path} ${one.reason}`);
}

const dir = (name: string, more: Partial<TarPart> = {}): TarPart => ({
  name,
  typeFlag: '5',
  mode: 0o755,
  ...more,
});

t.test('a directory that is only implied must look as it does below', async (t) => {
  const differs = 'implied-directory-differs-below';
  t.same(found([dir('tmp', { mode: 0o1777 })], [{ name: 'tmp/x' }]), [`1 tmp ${differs}`]);
  t.same(found([dir('home'), dir('home/me', { uid: 1000 })], [{ name: 'home/me/x' }]), [
    `1 home/me ${differs}`,
  ]);
  t.same(found([dir('tmp', { mode: 0o1777 })], [], [{ name: 'tmp/x' }]), [`2 tmp ${differs}`]);
  t.same(
    found([dir('tmp', { mode: 0o1777 })], [dir('tmp', { mode: 0o1777 }), { name: 'tmp/x' }]),
    [],
    'it has its entry',
  );
  t.same(found([dir('usr'), dir('usr/lib')], [{ name: 'usr/lib/x' }]), [], 'as it is implied');
  t.same(found([{ name: 'a/b/c' }], [{ name: 'a/b/d' }]), []);
});

t.test('a path through a link of a lower layer is no path here', async (t) => {
  const link = { name: 'bin', typeFlag: '2', linkName: 'usr/bin' };
  t.same(found([link], [{ name: 'bin/tool' }]), ['1 bin path-through-link-below']);
  t.same(found([link], [dir('bin'), { name: 'bin/tool' }]), [], 'a directory of its own replaces the link');
  const below = [dir('usr/bin/sub', { mode: 0o700 }), link];
  t.same(
    found(below, [dir('bin'), { name: 'bin/sub/tool' }]),
    ['1 bin/sub path-through-link-below'],
    'who unpacks looks through the link all the same, for how the directory is',
  );
  t.same(found(below, [dir('bin')], [{ name: 'bin/sub/tool' }]), ['2 bin/sub path-through-link-below']);
  t.same(found(below, [dir('bin'), dir('bin/sub'), { name: 'bin/sub/tool' }]), [], 'it has its entry');
  t.same(found([link], [{ name: '.wh.bin' }], [{ name: 'bin/tool' }]), [], 'the link was removed between');
});

t.test('what is hidden below does not count', async (t) => {
  const tmp = dir('a/tmp', { mode: 0o1777 });
  t.same(found([tmp], [{ name: 'a/.wh.tmp' }], [{ name: 'a/tmp/x' }]), []);
  t.same(found([tmp], [{ name: 'a' }], [dir('a'), { name: 'a/tmp/x' }]), [], 'a file was between');
});

t.test('who unpacks takes a directory from below, whatever is opaque', async (t) => {
  const tmp = dir('a/tmp', { mode: 0o1777 });
  const differs = 'a/tmp implied-directory-differs-below';
  t.same(found([tmp], [{ name: 'a/.wh..wh..opq' }], [{ name: 'a/tmp/x' }]), [`2 ${differs}`]);
  t.same(found([tmp], [{ name: 'a/.wh..wh..opq' }, { name: 'a/tmp/x' }]), [`1 ${differs}`]);
  t.same(found([tmp], [{ name: '.wh..wh..opq' }, { name: 'a/tmp/x' }]), [`1 ${differs}`]);
});

t.test('the lowest layer has no whiteout', async (t) => {
  const whiteoutIn = (...names: string[]): string | undefined =>
    lowestConflict(tarEntries(writeTar(names.map((name) => ({ name })))).map(layerEntry))?.path;
  t.equal(whiteoutIn('etc/x', 'etc/.wh.x'), 'etc/.wh.x', 'who unpacks takes x away');
  t.equal(whiteoutIn('.wh.gone'), '.wh.gone', 'overlayfs would list it, and have nothing there');
  t.equal(
    whiteoutIn('d/e/x', 'd/.wh..wh..opq'),
    'd/.wh..wh..opq',
    'who unpacks takes d/e away: it has no entry',
  );
  t.equal(whiteoutIn('.wh..wh..opq'), '.wh..wh..opq');
  t.equal(whiteoutIn('.wh..wh.plnk/1.2', 'a.wh.b', '.wh/x'), undefined, 'other names');
});
