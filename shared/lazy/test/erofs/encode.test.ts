import { digestOf } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { EROFS_LAYOUT, encodeErofs, hasRoot } from '../../src/erofs/encode.ts';
import { partsOf } from '../../src/erofs/extents.ts';
import { layerTree, type TreeNode, unpackedTree } from '../../src/erofs/layer-tree.ts';
import { layerEntry } from '../../src/index/layer-entry.ts';
import { tarEntries } from '../../src/tar/tar-reader.ts';
import { noise } from '../support/arbitrary-gzip.ts';
import { arbitraryParts } from '../support/arbitrary-tar.ts';
import { type FoundNode, materialize, readErofs } from '../support/erofs-reader.ts';
import { type TarPart, writeTar } from '../support/tar-writer.ts';

const UUID = { uuid: new Uint8Array(16).fill(7) };
const KINDS: Readonly<Record<TreeNode['type'], number>> = {
  file: 0o100000,
  directory: 0o040000,
  char: 0o020000,
  block: 0o060000,
  fifo: 0o010000,
  symlink: 0o120000,
};

function treeOf(tar: Buffer): TreeNode {
  return layerTree(tarEntries(tar).map(layerEntry));
}

function imageOf(parts: readonly TarPart[]): Map<string, FoundNode> {
  const tar = writeTar(parts);
  return readErofs(materialize(encodeErofs(treeOf(tar), UUID), tar));
}

/** The tree as the reader would find it, without nids. */
function expectedOf(
  root: TreeNode,
  tar: Buffer,
): { nodes: Map<string, object>; groups: Map<TreeNode, string[]> } {
  const nodes = new Map<string, object>();
  const groups = new Map<TreeNode, string[]>();
  const visit = (path: string, node: TreeNode): void => {
    groups.set(node, [...(groups.get(node) ?? []), path]);
    const children = [...(node.children ?? [])];
    const subdirectories = children.filter(([, child]) => child.type === 'directory').length;
    nodes.set(path, {
      ...{ type: KINDS[node.type], mode: node.mode, uid: node.uid, gid: node.gid },
      ...{ mtimeSec: node.mtimeSec, mtimeNsec: node.mtimeNsec },
      links: node.type === 'directory' ? 2 + subdirectories : undefined,
      rdev: (node.devMinor & 0xff) + node.devMajor * 256 + (node.devMinor >> 8) * 2 ** 20,
      xattrs: [...node.xattrs].map(([name, value]) => [name, Buffer.from(value).toString('hex')]).sort(),
      data:
        node.type === 'file'
          ? tar.toString('latin1', node.offset, node.offset + node.size)
          : (node.link as string),
    });
    for (const [name, child] of children) visit(path === '' ? name : `${path}/${name}`, child);
  };
  visit('', root);
  return { nodes, groups };
}

t.test('an image says what its tree says: random trees', async (t) => {
  let images = 0;
  fc.assert(
    fc.property(arbitraryParts(40), (parts) => {
      const tar = writeTar(parts);
      let root: TreeNode;
      try {
        root = treeOf(tar);
      } catch (error) {
        if (!isCoded(error, 'LAYER_NOT_LAZY')) throw error;
        return;
      }
      images += 1;
      const image = encodeErofs(root, UUID);
      const found = readErofs(materialize(image, tar));
      const { nodes, groups } = expectedOf(root, tar);
      for (const [node, paths] of groups)
        for (const path of paths) {
          const links = node.type === 'directory' ? {} : { links: paths.length };
          nodes.set(path, { ...nodes.get(path), ...links });
          if (found.get(path)?.nid !== found.get(paths[0]!)?.nid) throw new Error(`${path} is not linked`);
        }
      const plain = [...found].map(([path, { nid: _nid, data, xattrs, ...node }]) => {
        const one = { ...node, xattrs: [...xattrs].sort(), data: node.type === 0o040000 ? '' : data };
        return [path, one] as const;
      });
      t.strictSame(new Map([...plain].sort()), new Map([...nodes].sort()));
      t.equal(image.inodes, groups.size);
    }),
    { numRuns: 200 },
  );
  t.ok(images > 60, `${images} images`);
});

t.test('the root is found, however long the list of its names is', async (t) => {
  for (let count = 0; count <= 270; count += 1) {
    const names = Array.from({ length: count }, (_none, index) => ({ name: `${index}`.padStart(40, 'n') }));
    const attributes = new Map([['user.a', noise(1, 10 * (count % 13))]]);
    const tar = writeTar([{ name: './', typeFlag: '5', xattrs: attributes }, ...names]);
    const image = encodeErofs(treeOf(tar), UUID);
    t.ok(hasRoot(image.meta));
    t.equal(readErofs(materialize(image, tar)).size, count + 1, `${count} names`);
  }
  t.notOk(hasRoot(Buffer.alloc(0)));
  t.notOk(hasRoot(Buffer.alloc(4096)));
  const outside = Buffer.alloc(4096);
  outside.writeUInt16LE(0xffff, 1024 + 14);
  t.notOk(hasRoot(outside));
});

t.test('the same tree gives the same image, another uuid another', async (t) => {
  const tar = writeTar([{ name: 'a/b', payload: noise(1, 9000) }]);
  t.ok(encodeErofs(treeOf(tar), UUID).meta.equals(encodeErofs(treeOf(tar), UUID).meta));
  t.notOk(
    encodeErofs(treeOf(tar), { uuid: new Uint8Array(16) }).meta.equals(encodeErofs(treeOf(tar), UUID).meta),
  );
});

t.test('times are those that containerd gives to files', async (t) => {
  const timeOf = (parts: readonly TarPart[], path: string): unknown => {
    const tar = writeTar(parts);
    const image = encodeErofs(unpackedTree(tarEntries(tar).map(layerEntry)), UUID);
    const { mtimeSec, mtimeNsec } = readErofs(materialize(image, tar)).get(path)!;
    return [mtimeSec, mtimeNsec];
  };
  const last = 9_223_372_036;
  for (const [sec, nsec, shown] of [
    [-1, 5, [0, 0]],
    [-5_000_000_000, 0, [0, 0]],
    [0, 1, [0, 1]],
    [last, 854_775_807, [last, 854_775_807]],
    [last, 854_775_808, [0, 0]],
    [last + 1, 0, [0, 0]],
  ] as const)
    for (const typeFlag of ['0', '2', '5', '6'] as const) {
      const part = { name: 'one', typeFlag, linkName: 'x', mtimeSec: sec, mtimeNsec: nsec };
      t.same(timeOf([part], 'one'), shown, `${sec}.${nsec} of ${typeFlag}`);
      t.same(
        timeOf(
          [
            { name: 'one/two', typeFlag: '6' },
            { ...part, typeFlag: '5' },
          ],
          'one',
        ),
        shown,
      );
    }
  const file: TarPart = { name: 'file', payload: Buffer.from('x'), mtimeSec: 7, mtimeNsec: 7 };
  const link: TarPart = { name: 'link', typeFlag: '1', linkName: 'file', mtimeSec: 3 };
  t.same(timeOf([file, link], 'file'), [3, 0], 'the time of the link that came last');
  t.same(timeOf([file, link], 'link'), [3, 0]);
  t.same(timeOf([file, { ...link, mtimeSec: -3 }], 'file'), [0, 0]);
  const soft: TarPart = { name: 'file', typeFlag: '2', linkName: 'x', mtimeSec: 7 };
  t.same(timeOf([soft, link], 'file'), [3, 0], 'of a symbolic link, too');
});

t.test('a layout stays what it is: another one needs another EROFS_LAYOUT', async (t) => {
  const tar = writeTar([
    { name: 'a/b', payload: noise(1, 9000), mode: 0o644, mtimeSec: 1 },
    { name: 'a/l', typeFlag: '2', linkName: 'b' },
    { name: 'x', xattrs: new Map([['user.a', Buffer.from('b')]]) },
    { name: '.wh.gone' },
  ]);
  t.equal(EROFS_LAYOUT, 1);
  t.equal(
    digestOf(encodeErofs(treeOf(tar), UUID).meta),
    'sha256:ce7c52dc0aa95bde06842a9c2f4d59eefb0054a7a3f12b216dd651ea07f683df',
  );
});

t.test('any range of an image is made of its parts', async (t) => {
  const tar = writeTar([
    { name: 'a', payload: noise(1, 9000) },
    { name: 'empty' },
    { name: 'b', payload: noise(2, 1) },
    { name: 'c', payload: noise(3, 4096) },
  ]);
  const image = encodeErofs(treeOf(tar), UUID);
  const whole = materialize(image, tar);
  fc.assert(
    fc.property(fc.nat(whole.length - 1), fc.nat(20_000), (offset, most) => {
      const length = Math.min(most, whole.length - offset);
      const bytes = Buffer.alloc(length);
      let at = offset;
      for (const part of partsOf(image.extents, image.meta.length, offset, length)) {
        if (part.offset !== at || part.length <= 0) throw new Error('a gap');
        at += part.length;
        const from = part.kind === 'meta' ? image.meta : tar;
        if (part.kind !== 'zero')
          from.copy(bytes, part.offset - offset, part.source, part.source + part.length);
      }
      if (at !== offset + length) throw new Error('it ends early');
      if (!bytes.equals(whole.subarray(offset, offset + length))) throw new Error('bytes differ');
    }),
    { numRuns: 300 },
  );
  t.same(partsOf(image.extents, image.meta.length, whole.length - 5, 0), []);
});

t.test('whiteouts become what overlayfs understands', async (t) => {
  const found = imageOf([
    { name: 'gone/.wh.file' },
    { name: 'opaque/', typeFlag: '5', mode: 0o700 },
    { name: 'opaque/.wh..wh..opq' },
    { name: 'early/.wh..wh..opq' },
    { name: 'early/', typeFlag: '5', mode: 0o711, xattrs: new Map([['user.a', Buffer.from('b')]]) },
    { name: '.wh.again' },
    { name: 'again/new' },
    { name: 'kept', payload: Buffer.from('x') },
    { name: '.wh.kept' },
    { name: '.wh..wh.plnk/1.2' },
  ]);
  t.match(found.get('gone/file'), { type: 0o020000, rdev: 0, mode: 0 });
  const opaque = ['trusted.overlay.opaque', '79'];
  t.same(found.get('opaque')!.xattrs, [opaque]);
  t.equal(found.get('opaque')!.mode, 0o700);
  t.same(found.get('early')!.xattrs, [opaque, ['user.a', '62']]);
  t.same(found.get('again')!.xattrs, [opaque], 'removed below, made again here');
  t.equal(found.get('kept')!.data, 'x');
  t.notOk([...found.keys()].some((path) => path.includes('.wh.')));
});

t.test('a layer cannot bring marks of overlayfs, nor xattrs that EROFS does not have', async (t) => {
  const value = Buffer.from('/etc');
  const xattrs = new Map(
    ['trusted.overlay.redirect', 'trusted.overlay.opaque', 'system.other', 'trusted.mine'].map((name) => [
      name,
      value,
    ]),
  );
  t.same(
    imageOf([{ name: 'd/', typeFlag: '5', xattrs }])
      .get('d')!
      .xattrs.map(([name]) => name),
    ['trusted.mine'],
  );
});

t.test('later entries replace earlier ones; a replaced hard link keeps its content', async (t) => {
  const found = imageOf([
    { name: 'a', payload: Buffer.from('old') },
    { name: 'b', typeFlag: '1', linkName: './a' },
    { name: 'a', payload: Buffer.from('new') },
    { name: 'd/x', payload: Buffer.from('x') },
    { name: 'd', typeFlag: '5', mode: 0o700 },
    { name: 'e/x', payload: Buffer.from('x') },
    { name: 'e', payload: Buffer.from('file') },
  ]);
  t.equal(found.get('b')!.data, 'old');
  t.equal(found.get('a')!.data, 'new');
  t.equal(found.get('a')!.links, 1);
  t.equal(found.get('d/x')!.data, 'x');
  t.equal(found.get('d')!.mode, 0o700);
  t.equal(found.get('e')!.data, 'file');
});

t.test('large directories, long names, large numbers', async (t) => {
  const many = Array.from({ length: 100_000 }, (_none, index) => ({ name: `dir/file-${index}` }));
  const long = Array.from({ length: 16 }, () => 'n'.repeat(255)).join('/');
  const found = imageOf([
    ...many,
    { name: long, payload: Buffer.from('deep') },
    { name: 'link', typeFlag: '2', linkName: 't'.repeat(4095) },
    {
      name: 'xattr',
      xattrs: new Map([
        ['user.big', noise(1, 60_000)],
        ['security.big', noise(2, 60_000)],
      ]),
    },
    { name: 'owner', uid: 3_000_000, gid: 4_294_967_295 },
    { name: 'dev', typeFlag: '4', devMajor: 4095, devMinor: 1_048_575 },
  ]);
  t.equal([...found.keys()].filter((path) => path.startsWith('dir/')).length, 100_000);
  t.equal(found.get(long)!.data, 'deep');
  t.equal(found.get('link')!.data.length, 4095);
  t.equal(found.get('xattr')!.xattrs.length, 2);
  t.match(found.get('owner'), { uid: 3_000_000, gid: 4_294_967_295 });
  t.equal(found.get('dev')!.rdev, (0xff | (4095 << 8) | ((1_048_575 & ~0xff) << 12)) >>> 0);
});

t.test('what no mounted layer can show is refused by name', async (t) => {
  const reasonOf = (...parts: TarPart[]): unknown => {
    try {
      treeOf(writeTar(parts));
      return undefined;
    } catch (error) {
      if (!isCoded(error, 'LAYER_NOT_LAZY')) throw error;
      return error.detail['reason'];
    }
  };
  const link = { name: 'l', typeFlag: '2', linkName: 'd' };
  t.equal(reasonOf(link, { name: 'l/x' }), 'path-through-link-or-file');
  t.equal(reasonOf({ name: 'h', typeFlag: '1', linkName: 'below' }), 'hard-link-into-another-layer');
  t.equal(
    reasonOf({ name: 'd/', typeFlag: '5' }, { name: 'h', typeFlag: '1', linkName: 'd' }),
    'hard-link-to-directory',
  );
  t.equal(reasonOf({ name: 'n'.repeat(256) }), 'name-not-possible');
  t.equal(reasonOf({ name: '.wh.' }), 'name-not-possible');
  t.equal(reasonOf({ name: '.wh...' }), 'name-not-possible');
  t.equal(reasonOf({ ...link, linkName: '' }), 'link-target-not-possible');
  t.equal(reasonOf({ ...link, linkName: 't'.repeat(4096) }), 'link-target-not-possible');
  t.equal(reasonOf({ name: 'c', typeFlag: '3', devMajor: 4096 }), 'device-number-not-possible');
  t.equal(reasonOf({ name: '.' }), 'root-is-no-directory');
  t.equal(reasonOf({ name: 'x', xattrs: new Map([['user.', Buffer.alloc(1)]]) }), 'xattr-name-not-possible');
  t.equal(
    reasonOf({ name: 'x', xattrs: new Map([['user.a', Buffer.alloc(65_536)]]) }),
    'xattr-value-too-long',
  );
  const many = Array.from({ length: 5 }, (_none, index) => [`user.${index}`, Buffer.alloc(60_000)] as const);
  t.equal(reasonOf({ name: 'x', xattrs: new Map(many) }), 'xattrs-too-long');
});
