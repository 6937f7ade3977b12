import { gunzipSync } from 'node:zlib';
import { openEstargz } from '../../src/estargz/open.ts';
import { inflateMembers, type ReadAt } from '../../src/pack/inflate.ts';
import { byteStringOf, textOf } from '../../src/tar/byte-string.ts';
import { cleanPath, type TarEntry } from '../../src/tar/tar-entry.ts';
import { TarReader } from '../../src/tar/tar-reader.ts';

/** A file system's node: what `mtree` would print, and which names share it. */
export interface TreeNode {
  readonly type: string;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Whole seconds, rounded as the format rounds. */
  readonly mtime: number;
  readonly link: string;
  readonly device: string;
  readonly xattrs: Record<string, string>;
  readonly content: string;
}

/** Path → node and the group of names of that node. */
export type Tree = Record<string, TreeNode & { readonly names: readonly string[] }>;

const HIDDEN = ['stargz.index.json', '.prefetch.landmark', '.no.prefetch.landmark'];

/** What unpacking a tar leaves behind; sparse files are not filled in. */
export function unpacked(tar: Uint8Array): Tree {
  const nodes = new Map<string, TreeNode>();
  const contents = new Map<TarEntry, Buffer[]>();
  const entries: TarEntry[] = [];
  const reader = new TarReader({
    entry: (entry) => {
      entries.push(entry);
      contents.set(entry, []);
    },
    payload: (bytes, entry) => void contents.get(entry)!.push(Buffer.from(bytes)),
  });
  reader.push(tar);
  reader.end();
  for (const entry of entries) {
    const path = textOf(cleanPath(entry.name));
    const linked = entry.type === 'hardlink' ? nodes.get(textOf(cleanPath(entry.linkName))) : undefined;
    if (entry.type === 'hardlink' && linked === undefined) throw new Error(`${path} links to nothing`);
    // A directory may be there without an entry of its own.
    if (entry.type !== 'directory')
      for (const other of [...nodes.keys()]) if (other.startsWith(`${path}/`)) nodes.delete(other);
    nodes.set(path, linked ?? nodeOf(entry, Buffer.concat(contents.get(entry)!)));
  }
  return treeOf(nodes);
}

function nodeOf(entry: TarEntry, content: Buffer): TreeNode {
  const rounded = Math.round(
    Number((BigInt(entry.mtimeSec) * 1000n + BigInt(Math.floor(entry.mtimeNsec / 1e6))) / 1n) / 1000,
  );
  return {
    type: entry.type,
    mode: entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    mtime: rounded,
    link: entry.type === 'symlink' ? textOf(entry.linkName) : '',
    device: `${entry.devMajor}:${entry.devMinor}`,
    xattrs: Object.fromEntries(
      [...entry.xattrs].map(([key, value]) => [textOf(key), Buffer.from(value).toString('hex')]).sort(),
    ),
    content: content.toString('base64'),
  };
}

function treeOf(nodes: ReadonlyMap<string, TreeNode>): Tree {
  const names = new Map<TreeNode, string[]>();
  for (const [path, node] of nodes) names.set(node, [...(names.get(node) ?? []), path].sort());
  return Object.fromEntries(
    [...nodes]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([path, node]) => [path, { ...node, names: names.get(node)! }]),
  );
}

/** What an ordinary runtime sees of an eStargz layer: the tree without TOC and landmark. */
export function eager(blob: Uint8Array): Tree {
  const tree = unpacked(gunzipSync(blob));
  for (const name of HIDDEN) delete tree[name];
  return tree;
}

const TYPES: Record<string, string> = { dir: 'directory', reg: 'file' };

/** What a lazy snapshotter sees of it: the TOC, and content by its chunks. */
export async function lazy(blob: Uint8Array, externalToc?: Uint8Array): Promise<Tree> {
  const read: ReadAt = async (offset, length) => blob.subarray(offset, offset + length);
  const { files, dataEnd } = await openEstargz({ read, sizeBytes: blob.length, externalToc });
  const offsets = [...new Set(files.flatMap((file) => file.chunks.map((chunk) => chunk.offset)))];
  const nodes = new Map<string, TreeNode>();
  const links: [string, string][] = [];
  for (const { path, entry, chunks } of files) {
    if (HIDDEN.includes(path)) continue;
    if (entry.type === 'hardlink') {
      links.push([path, textOf(cleanPath(byteStringOf(entry.linkName!)))]);
      continue;
    }
    const content: Buffer[] = [];
    for (const chunk of chunks) {
      const member: Buffer[] = [];
      const end = offsets.find((offset) => offset > chunk.offset) ?? dataEnd;
      await inflateMembers(read, chunk.offset, end, (bytes) => void member.push(Buffer.from(bytes)));
      content.push(Buffer.concat(member).subarray(chunk.innerOffset, chunk.innerOffset + chunk.sizeBytes));
    }
    nodes.set(path, {
      type: TYPES[entry.type] ?? entry.type,
      mode: entry.mode ?? 0,
      uid: entry.uid ?? 0,
      gid: entry.gid ?? 0,
      mtime: entry.modtime === undefined ? 0 : Date.parse(entry.modtime) / 1000,
      link: entry.linkName ?? '',
      device: `${entry.devMajor ?? 0}:${entry.devMinor ?? 0}`,
      xattrs: Object.fromEntries(
        Object.entries(entry.xattrs ?? {})
          .map(([key, value]) => [key, Buffer.from(value, 'base64').toString('hex')])
          .sort(),
      ),
      content: Buffer.concat(content).toString('base64'),
    });
  }
  for (let left = links; left.length > 0; ) {
    const rest = left.filter(([path, target]) => {
      const node = nodes.get(target);
      if (node === undefined) return true;
      nodes.set(path, node);
      return false;
    });
    if (rest.length === left.length) throw new Error(`${JSON.stringify(rest)} link to nothing`);
    left = rest;
  }
  return treeOf(nodes);
}

/** A tar in memory as the writer reads it. */
export function tarBytes(tar: Uint8Array): {
  sizeBytes: number;
  readInto(into: Uint8Array, offset: number): Promise<void>;
} {
  return {
    sizeBytes: tar.length,
    readInto: async (into, offset) => {
      if (offset + into.length > tar.length) throw new RangeError('read behind the end of the tar');
      into.set(tar.subarray(offset, offset + into.length));
    },
  };
}

/** A byte string of a text, as the tar writer of the tests takes it. */
export function bytesText(text: string): string {
  return byteStringOf(text);
}
