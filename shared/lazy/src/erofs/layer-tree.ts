import { CodedError } from '@sepia/base/errors';
import type { LayerEntry, LayerEntryType } from '../index/layer-entry.ts';
import { type ByteString, byteStringOf, textOf } from '../tar/byte-string.ts';
import { checkXattrs } from './xattrs.ts';

/** What a layer's tree holds; names are in the directories. */
export interface TreeNode {
  readonly type: Exclude<LayerEntryType, 'hardlink'>;
  mode: number;
  uid: number;
  gid: number;
  mtimeSec: number;
  mtimeNsec: number;
  readonly devMajor: number;
  readonly devMinor: number;
  xattrs: ReadonlyMap<ByteString, Uint8Array>;
  /** Target of a symbolic link. */
  readonly link: ByteString;
  /** A file's place in the uncompressed layer. */
  readonly offset: number;
  readonly size: number;
  /** Of a directory; two names of one node are hard links. */
  readonly children: Map<ByteString, TreeNode> | undefined;
  /** A directory that only other entries' paths name. */
  isImplied: boolean;
  /** Its turn in the list of inodes that was made of it last: counts only where that list has it there. */
  turn: number;
}

const NAME_BYTES = 255;
const TARGET_BYTES = 4095;
/**
 * Directories that only other entries' paths name: a path of 256 bytes may name 127 that nothing else does, each held in
 * memory like an entry. Builders that leave directories out have hundreds.
 */
const MAX_IMPLIED = 100_000;
const MAX_MAJOR = 4095;
const MAX_MINOR = 2 ** 20 - 1;
const WHITEOUT = '.wh.';
const AUFS = '.wh..wh.';
const OPAQUE = '.wh..wh..opq';
const OVERLAY_OPAQUE = byteStringOf('trusted.overlay.opaque');
const YES = Buffer.from('y');
const NONE: ReadonlyMap<ByteString, Uint8Array> = new Map();
/** 2262-04-11T23:47:16.854775807Z, the last time that containerd gives to a file. */
const MAX_SEC = 9_223_372_036;
const MAX_NSEC_THEN = 854_775_807;

/**
 * The tree that a layer's entries make, as an unpacked layer for overlayfs: later entries replace earlier ones,
 * directories are merged, whiteouts (OCI image-spec, "Whiteouts") become character devices 0:0 and the xattr
 * `trusted.overlay.opaque`. A whiteout hides lower layers only: where the layer itself has the name, a directory
 * becomes opaque and anything else stays.
 * @param outside takes hard links whose target is in no entry before, path to target; left out: they are refused
 * @throws {CodedError} `LAYER_NOT_LAZY`; `detail.reason` says why, `detail.path` where
 */
export function layerTree(entries: Iterable<LayerEntry>, outside?: Map<ByteString, ByteString>): TreeNode {
  const builder = new TreeBuilder(outside);
  for (const entry of entries) builder.add(entry);
  return builder.done();
}

/**
 * {@link layerTree} with the times that containerd unpacks: one before 1970 or after 2262 is 1970, and the time of a
 * hard link's entry is given to the file that it links to.
 * @throws {CodedError} as {@link layerTree}
 */
export function unpackedTree(entries: Iterable<LayerEntry>): TreeNode {
  const builder = new TreeBuilder(undefined, true);
  for (const entry of entries) builder.add(withUnpackedTime(entry));
  return builder.done();
}

function withUnpackedTime(entry: LayerEntry): LayerEntry {
  const { mtimeSec, mtimeNsec } = entry;
  const isAtMost = mtimeSec < MAX_SEC || (mtimeSec === MAX_SEC && mtimeNsec <= MAX_NSEC_THEN);
  return mtimeSec >= 0 && isAtMost ? entry : { ...entry, mtimeSec: 0, mtimeNsec: 0 };
}

/** True for the entry of a whiteout: a name that its layer hides from lower ones, or all names of an opaque directory. */
export function isWhiteoutPath(path: ByteString): boolean {
  if (path.startsWith(AUFS)) return path === OPAQUE;
  return path.startsWith(WHITEOUT, path.lastIndexOf('/') + 1);
}

class TreeBuilder {
  readonly #root = impliedDirectory();
  /** Names that a directory hides from lower layers. */
  readonly #whiteouts = new Map<TreeNode, Set<ByteString>>();
  readonly #outside: Map<ByteString, ByteString> | undefined;
  /** Directories by path, as long as no directory was replaced: most entries lie in one that was found before. */
  readonly #ways = new Map<ByteString, TreeNode>();

  readonly #setsLinkTimes: boolean;
  #implied = 0;

  constructor(outside: Map<ByteString, ByteString> | undefined, setsLinkTimes = false) {
    this.#outside = outside;
    this.#setsLinkTimes = setsLinkTimes;
  }

  add(entry: LayerEntry): void {
    if (entry.path === '') {
      if (entry.type !== 'directory') notLazy('root-is-no-directory', entry);
      setAttributes(this.#root, entry);
      return;
    }
    const { path } = entry;
    const slash = path.lastIndexOf('/');
    const name = path.slice(slash + 1) as ByteString;
    const above = path.slice(0, Math.max(0, slash)) as ByteString;
    checkName(name, entry);
    if (!this.#ways.has(above)) for (const part of above.split('/')) checkName(part, entry);
    // Bookkeeping of AUFS at the root is no content; links into it will not find their target.
    if (path.startsWith(AUFS) && path !== OPAQUE) return;
    const parent = this.#ways.get(above) ?? this.#directory(above, entry);
    if (name === OPAQUE) parent.xattrs = new Map([...parent.xattrs, [OVERLAY_OPAQUE, YES]]);
    else if (name.startsWith(WHITEOUT))
      this.#whiteout(parent, name.slice(WHITEOUT.length) as ByteString, entry);
    else this.#put(parent, name, entry);
  }

  done(): TreeNode {
    for (const [directory, names] of this.#whiteouts) {
      for (const name of names) {
        const own = directory.children!.get(name);
        if (own === undefined) directory.children!.set(name, whiteoutNode());
        else if (own.type === 'directory') own.xattrs = new Map([...own.xattrs, [OVERLAY_OPAQUE, YES]]);
      }
    }
    return this.#root;
  }

  #whiteout(parent: TreeNode, name: ByteString, entry: LayerEntry): void {
    if (name === '' || name === '.' || name === '..') notLazy('name-not-possible', entry);
    const names = this.#whiteouts.get(parent) ?? new Set();
    this.#whiteouts.set(parent, names.add(name));
  }

  #put(parent: TreeNode, name: ByteString, entry: LayerEntry): void {
    const children = parent.children!;
    const old = children.get(name);
    this.#outside?.delete(entry.path);
    if (entry.type === 'directory' && old?.type === 'directory') {
      setAttributes(old, entry);
      return;
    }
    if (entry.type === 'hardlink') {
      const target = this.#find(entry.link);
      if (target === undefined && this.#outside !== undefined) {
        this.#replace(children, name, undefined);
        this.#outside.set(entry.path, entry.link);
        return;
      }
      if (target === undefined) notLazy('hard-link-into-another-layer', entry);
      if (target.type === 'directory') notLazy('hard-link-to-directory', entry);
      if (this.#setsLinkTimes) setTime(target, entry);
      this.#replace(children, name, target);
      return;
    }
    this.#replace(children, name, nodeOf(entry));
  }

  #replace(children: Map<ByteString, TreeNode>, name: ByteString, node: TreeNode | undefined): void {
    if (children.get(name)?.type === 'directory') this.#ways.clear();
    if (node === undefined) children.delete(name);
    else children.set(name, node);
  }

  #directory(path: ByteString, entry: LayerEntry): TreeNode {
    let node = this.#root;
    for (const part of path === '' ? [] : (path.split('/') as ByteString[])) {
      let next = node.children!.get(part);
      if (next === undefined) {
        this.#implied += 1;
        if (this.#implied > MAX_IMPLIED) notLazy('too-many-implied-directories', entry);
        next = impliedDirectory();
        node.children!.set(part, next);
      }
      if (next.type !== 'directory') notLazy('path-through-link-or-file', entry);
      node = next;
    }
    this.#ways.set(path, node);
    return node;
  }

  #find(path: ByteString): TreeNode | undefined {
    let node: TreeNode | undefined = this.#root;
    for (const part of path.split('/')) node = node?.children?.get(part as ByteString);
    return node;
  }
}

function checkName(name: string, entry: LayerEntry): void {
  if (name.length > NAME_BYTES || name.includes('\0')) notLazy('name-not-possible', entry);
}

function nodeOf(entry: LayerEntry): TreeNode {
  const { type, link, mode, uid, gid, mtimeSec, mtimeNsec, devMajor, devMinor, offset, size } = entry;
  if (type === 'symlink' && (link === '' || link.length > TARGET_BYTES || link.includes('\0')))
    notLazy('link-target-not-possible', entry);
  if (devMajor > MAX_MAJOR || devMinor > MAX_MINOR) notLazy('device-number-not-possible', entry);
  // One literal: a layer has up to millions of them.
  return {
    type: type as TreeNode['type'],
    // Linux keeps no mode of a symbolic link.
    mode: type === 'symlink' ? 0o777 : mode,
    uid,
    gid,
    mtimeSec,
    mtimeNsec,
    devMajor,
    devMinor,
    xattrs: entry.xattrs.size === 0 ? NONE : checkXattrs(entry.xattrs, (reason) => notLazy(reason, entry)),
    link,
    offset,
    size,
    children: type === 'directory' ? new Map() : undefined,
    isImplied: false,
    turn: -1,
  };
}

function setAttributes(node: TreeNode, entry: LayerEntry): void {
  node.mode = entry.mode;
  node.uid = entry.uid;
  node.gid = entry.gid;
  setTime(node, entry);
  node.isImplied = false;
  if (entry.xattrs.size === 0 && node.xattrs.size === 0) return;
  const kept = checkXattrs(entry.xattrs, (reason) => notLazy(reason, entry));
  // A marker file may have made the directory opaque before its own entry came.
  const opaque = node.xattrs.get(OVERLAY_OPAQUE);
  node.xattrs = opaque === undefined ? kept : kept.set(OVERLAY_OPAQUE, opaque);
}

function setTime(node: TreeNode, { mtimeSec, mtimeNsec }: LayerEntry): void {
  node.mtimeSec = mtimeSec;
  node.mtimeNsec = mtimeNsec;
}

/** A directory as it is where only other paths name it. */
export function impliedDirectory(): TreeNode {
  return {
    type: 'directory',
    mode: 0o755,
    uid: 0,
    gid: 0,
    mtimeSec: 0,
    mtimeNsec: 0,
    devMajor: 0,
    devMinor: 0,
    xattrs: NONE,
    link: '' as ByteString,
    offset: 0,
    size: 0,
    children: new Map(),
    isImplied: true,
    turn: -1,
  };
}

/** A node that hides what lower layers have under its name. */
export function isWhiteout(node: TreeNode): boolean {
  return node.type === 'char' && node.devMajor === 0 && node.devMinor === 0;
}

/** A directory that shows nothing of lower layers. */
export function isOpaque(node: TreeNode): boolean {
  return node.xattrs.has(OVERLAY_OPAQUE);
}

function whiteoutNode(): TreeNode {
  return { ...impliedDirectory(), type: 'char', mode: 0, children: undefined, isImplied: false };
}

function notLazy(reason: string, entry: LayerEntry): never {
  throw new CodedError('LAYER_NOT_LAZY', { detail: { reason, path: textOf(entry.path) } });
}
