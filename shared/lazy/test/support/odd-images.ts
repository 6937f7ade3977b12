import { cleanPath, type TarEntry } from '../../src/tar/tar-entry.ts';
import { TarReader } from '../../src/tar/tar-reader.ts';
import { type TarPart, writeGlobal, writeOldSparse, writeTar } from './tar-writer.ts';

/** A node of an image's root, as `mtree` would print it. */
interface Node {
  readonly entry: TarEntry;
  readonly content: Buffer;
}

/** What is shown of a node, and the names that it has. */
type StackedNode = ReturnType<typeof shown> & { readonly names: readonly string[] };

/** Unpacks layers over each other as a runtime does: whiteouts, opaque directories, links across layers. */
export function stacked(layers: readonly Uint8Array[]): Record<string, StackedNode> {
  const nodes = new Map<string, Node>();
  const removeBelow = (path: string, keep: ReadonlySet<string>): void => {
    for (const other of [...nodes.keys()])
      if ((path === '' || other.startsWith(`${path}/`)) && !keep.has(other)) nodes.delete(other);
  };
  for (const tar of layers) {
    const own = new Set<string>();
    for (const node of read(tar)) {
      const path = cleanPath(node.entry.name) as string;
      const slash = path.lastIndexOf('/') + 1;
      const [folder, base] = [path.slice(0, Math.max(0, slash - 1)), path.slice(slash)];
      if (HIDDEN.has(path)) continue;
      if (base === '.wh..wh..opq') removeBelow(folder, own);
      else if (base.startsWith('.wh.')) {
        const gone = path.slice(0, slash) + base.slice(4);
        nodes.delete(gone);
        removeBelow(gone, new Set());
      } else {
        const linked = node.entry.type === 'hardlink' ? nodes.get(cleanPath(node.entry.linkName)) : undefined;
        if (node.entry.type !== 'directory') removeBelow(path, new Set());
        nodes.set(path, linked ?? node);
        own.add(path);
      }
    }
  }
  const names = new Map<Node, string[]>();
  for (const [path, node] of nodes) names.set(node, [...(names.get(node) ?? []), path].sort());
  return Object.fromEntries(
    [...nodes]
      .sort(([one], [other]) => (one < other ? -1 : 1))
      .map(([path, node]) => [path, { ...shown(node), names: names.get(node)! }]),
  );
}

const HIDDEN = new Set(['stargz.index.json', '.no.prefetch.landmark', '.prefetch.landmark']);

function shown({ entry, content }: Node) {
  const { type, mode, uid, gid, userName, groupName, mtimeSec, mtimeNsec, devMajor, devMinor, xattrs } =
    entry;
  const link = type === 'symlink' ? entry.linkName : '';
  const attributes = [...xattrs].map(([key, value]) => [key, Buffer.from(value).toString('hex')]);
  return {
    type,
    mode,
    uid,
    gid,
    userName,
    groupName,
    mtimeSec,
    mtimeNsec,
    devMajor,
    devMinor,
    attributes,
    link,
    content: content.toString('base64'),
  };
}

function read(tar: Uint8Array): Node[] {
  const found: { entry: TarEntry; pieces: Buffer[] }[] = [];
  const reader = new TarReader({
    entry: (entry) => void found.push({ entry, pieces: [] }),
    payload: (bytes) => void found.at(-1)!.pieces.push(Buffer.from(bytes)),
  });
  reader.push(tar);
  reader.end();
  return found.map(({ entry, pieces }) => ({ entry, content: Buffer.concat(pieces) }));
}

const file = (name: string, content: string, more: Partial<TarPart> = {}): TarPart => ({
  name,
  payload: Buffer.from(content),
  mode: 0o644,
  mtimeSec: 1_700_000_000,
  ...more,
});
const dir = (name: string, more: Partial<TarPart> = {}): TarPart => ({
  name,
  typeFlag: '5',
  mode: 0o755,
  ...more,
});

const IMAGES: Record<string, Buffer[]> = {
  'hard links inside and across layers': [
    writeTar([
      dir('bin'),
      file('bin/a', 'one'),
      { name: 'bin/b', typeFlag: '1', linkName: 'bin/a', mode: 0o644 },
    ]),
    writeTar([{ name: 'bin/c', typeFlag: '1', linkName: 'bin/a' }, file('bin/d', 'two')]),
    writeTar([file('bin/a', 'new'), { name: 'bin/e', typeFlag: '1', linkName: 'bin/a', mode: 0o644 }]),
  ],
  'whiteouts and opaque directories': [
    writeTar([
      dir('d'),
      file('d/x', 'x'),
      file('d/y', 'y'),
      dir('o'),
      file('o/old', 'old'),
      file('gone', 'g'),
    ]),
    writeTar([
      file('d/.wh.x', ''),
      dir('o'),
      file('o/.wh..wh..opq', ''),
      file('o/new', 'new'),
      file('.wh.gone', ''),
    ]),
  ],
  'xattrs and capabilities': [
    writeTar([
      file('ping', 'p', {
        xattrs: new Map([
          ['security.capability', Uint8Array.of(1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0xff)],
          ['user.empty', new Uint8Array()],
        ]),
      }),
      dir('d', { xattrs: new Map([['user.a', Buffer.from('line\nfeed=')]]) }),
    ]),
  ],
  'devices and FIFOs': [
    writeTar([
      { name: 'dev/null', typeFlag: '3', mode: 0o666, devMajor: 1, devMinor: 3 },
      {
        name: 'dev/sda',
        typeFlag: '4',
        mode: 0o660,
        gid: 6,
        groupName: 'disk',
        devMajor: 8,
        devMinor: 200_000,
      },
      { name: 'run/fifo', typeFlag: '6', mode: 0o600 },
    ]),
  ],
  'setuid, setgid, sticky': [
    writeTar([
      file('su', 's', { mode: 0o4755 }),
      file('wall', 'w', { mode: 0o2755 }),
      dir('tmp', { mode: 0o1777 }),
      file('none', 'n', { mode: 0 }),
    ]),
  ],
  'names of 4 KiB and of every kind': [
    writeTar([
      file(`${'d'.repeat(250)}/`.repeat(16) + 'x'.repeat(80), 'deep'),
      file('with space', 's'),
      file('-dash', 'd'),
      file('new\nline', 'n'),
      file('quote"\\', 'q'),
      { name: 'link', typeFlag: '2', linkName: '../'.repeat(1300) },
    ]),
    writeTar([file('gnu/'.repeat(60) + 'y'.repeat(250), 'gnu')], 'gnu'),
  ],
  'empty layers': [writeTar([]), writeTar([file('a', 'a')]), Buffer.alloc(10_240), writeTar([dir('./')])],
  'duplicate entries': [
    writeTar([
      file('a', '1'),
      dir('d'),
      file('d/x', 'x'),
      file('./a', '2'),
      { name: 'b', typeFlag: '1', linkName: 'a', mode: 0o644 },
      file('a', '3'),
      dir('d/', { mode: 0o700 }),
    ]),
  ],
  'PAX global headers': [
    Buffer.concat([
      writeGlobal(new Map([['comment', '0123456789abcdef0123456789abcdef01234567']])),
      writeTar([file('first', '1')], 'pax', new Uint8Array()),
      writeGlobal(
        new Map([
          ['uname', 'builder'],
          ['mtime', '1500000000.5'],
        ]),
      ),
      writeTar([file('second', '2'), dir('d')]),
    ]),
  ],
  'uid 3,000,000 and large numbers': [
    writeTar([
      file('a', 'a', {
        uid: 3_000_000,
        gid: 3_000_000,
        userName: 'someone',
        mtimeSec: 1_700_000_000,
        mtimeNsec: 123_456_789,
      }),
    ]),
    writeTar(
      [
        file('b', 'b', { uid: 4_294_967_294, gid: 2_097_152, mtimeSec: 9_000_000_000 }),
        file('c', 'c', { mtimeSec: -1 }),
      ],
      'gnu',
    ),
  ],
};

/** A sparse file as GNU tar writes it (PAX form 0.1), and what it means. */
const HOLES = writeTar([
  file('GNUSparseFile.0/big', 'datadata', {
    pax: new Map([
      ['GNU.sparse.size', '100000'],
      ['GNU.sparse.numblocks', '2'],
      ['GNU.sparse.map', '4096,4,50000,4'],
      ['GNU.sparse.name', 'big'],
    ]),
  }),
  file('next', 'n'),
]);
/** The same in GNU's old form. */
const OLD_HOLES = Buffer.concat([
  writeOldSparse(file('big', 'datadata'), [4096, 4, 50_000, 4], 100_000).subarray(0, -1024),
  writeTar([file('next', 'n')]),
]);
const FILLED = (() => {
  const content = Buffer.alloc(100_000);
  content.write('data', 4096);
  content.write('data', 50_000);
  return writeTar([{ ...file('big', ''), payload: content }, file('next', 'n')]);
})();

/** Ten odd images and two with holes: their layers, and what they mean. */
export const ODD_IMAGES: [name: string, before: Buffer[], meaning: Buffer[]][] = [
  ...Object.entries(IMAGES).map(([name, tars]): [string, Buffer[], Buffer[]] => [name, tars, tars]),
  ['sparse files', [HOLES], [FILLED]],
  ['sparse files of the old form', [OLD_HOLES], [FILLED]],
];
