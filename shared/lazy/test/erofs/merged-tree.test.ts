import t from 'tap';
import { layerTree } from '../../src/erofs/layer-tree.ts';
import { findMerged } from '../../src/erofs/merged-tree.ts';
import { layerEntry } from '../../src/index/layer-entry.ts';
import { tarEntries } from '../../src/tar/tar-reader.ts';
import { type TarPart, writeTar } from '../support/tar-writer.ts';

function finderOf(...layers: TarPart[][]): (path: string) => string | undefined {
  const trees = layers.map((parts) => layerTree(tarEntries(writeTar(parts)).map(layerEntry)));
  return (path) => {
    const found = findMerged(trees, path);
    return found === undefined ? undefined : `${found.layer} ${found.path} ${found.node.type}`;
  };
}

const link = (name: string, linkName: string): TarPart => ({ name, typeFlag: '2', linkName });
const dir = (name: string): TarPart => ({ name, typeFlag: '5', mode: 0o755 });

t.test('the topmost layer that has a path shows it; directories are merged', async (t) => {
  const find = finderOf([{ name: 'usr/bin/a' }, { name: 'usr/bin/b' }], [{ name: 'usr/bin/b' }]);
  t.equal(find('/usr/bin/a'), '0 /usr/bin/a file');
  t.equal(find('/usr/bin/b'), '1 /usr/bin/b file');
  t.equal(find('usr//./bin/../bin/a'), '0 /usr/bin/a file');
  t.equal(find('/usr/bin/c'), undefined);
  t.equal(find('/usr/bin/a/b'), undefined, 'a file has nothing in it');
  t.equal(find('/../..'), '1 / directory');
});

t.test('links are followed, across layers, and not for ever', async (t) => {
  const find = finderOf(
    [{ name: 'usr/lib/libc.so.6' }, { name: 'opt/tool/bin/run' }],
    [
      link('lib', 'usr/lib'),
      link('bin', '/opt/tool/bin'),
      link('up', 'usr/../opt'),
      link('a', 'b'),
      link('b', 'a'),
    ],
  );
  t.equal(find('/lib/libc.so.6'), '0 /usr/lib/libc.so.6 file');
  t.equal(find('/bin/run'), '0 /opt/tool/bin/run file');
  t.equal(find('/up/tool/bin/run'), '0 /opt/tool/bin/run file');
  t.equal(find('/bin/../bin/run'), '0 /opt/tool/bin/run file', 'above a link is its target’s folder');
  t.equal(find('/a'), undefined);
});

t.test('what an upper layer hides is not found', async (t) => {
  const low = [dir('etc'), { name: 'etc/a' }, { name: 'etc/b' }, dir('var'), { name: 'var/x' }];
  const whiteout = finderOf(low, [{ name: 'etc/.wh.a' }]);
  t.equal(whiteout('/etc/a'), undefined);
  t.equal(whiteout('/etc/b'), '0 /etc/b file');
  const opaque = finderOf(low, [dir('etc'), { name: 'etc/.wh..wh..opq' }, { name: 'etc/c' }]);
  t.equal(opaque('/etc/b'), undefined);
  t.equal(opaque('/etc/c'), '1 /etc/c file');
  t.equal(opaque('/var/x'), '0 /var/x file');
  const replaced = finderOf(low, [{ name: 'var' }], [dir('var'), { name: 'var/y' }]);
  t.equal(replaced('/var/x'), undefined, 'a file stood between');
  t.equal(replaced('/var/y'), '2 /var/y file');
});
