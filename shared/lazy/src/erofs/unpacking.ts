import { CodedError } from '@sepia/base/errors';
import type { LayerEntry } from '../index/layer-entry.ts';
import { type ByteString, byteStringOf, textOf } from '../tar/byte-string.ts';
import type { TreeNode } from './layer-tree.ts';
import { OVERLAY_MARKS } from './xattrs.ts';

const TRUSTED = 'trusted.';
const USER = 'user.';
const ACL = 'system.posix_acl_';
const WHITEOUT = byteStringOf('.wh.');
const SETGID = 0o2000;
/** As a number of 32 bits it is −1: `chown` leaves the owner as it is. */
const NO_OWNER = 2 ** 32 - 1;

/**
 * Refuses a layer that its image would show in another way than containerd unpacks it. containerd
 *
 * - leaves the owner of the root as it is;
 * - leaves out `trusted.*`, and `user.*` of what is neither file nor directory;
 * - lets a list of rights (POSIX ACL) change what is made below it, and the mode of a file change its list;
 * - has root where an owner is the number that stands for none;
 * - adds the attributes of a directory that comes twice;
 * - gives the time of a directory to what is in its place in the end;
 * - lets lower layers be seen through a directory whose whiteout came before it, which the OCI image-spec hides;
 * - makes a directory that other paths imply by `mkdir`, to which a setgid directory gives its group.
 *
 * No common builder writes any of it.
 * @param entries of a tar of its own, in its order
 * @param tree what they make
 * @throws {CodedError} `LAYER_NOT_LAZY`
 */
export function checkUnpacking(entries: Iterable<LayerEntry>, tree: TreeNode): void {
  checkEntries(entries);
  checkImplied(tree);
}

function checkEntries(entries: Iterable<LayerEntry>): void {
  const directories = new Map<ByteString, LayerEntry>();
  /** What directories lie in, where it has no entry before them. */
  const above = new Set<ByteString>();
  const whiteouts = new Map<ByteString, LayerEntry>();
  for (const entry of entries) {
    checkXattrNames(entry);
    const { path, type, uid, gid } = entry;
    if (uid === NO_OWNER || gid === NO_OWNER) notLazy('owner-not-possible', entry);
    const hidden = hiddenBy(path);
    if (hidden !== undefined) whiteouts.set(hidden, entry);
    else if (path === '') checkRoot(entry);
    else if (type !== 'directory') {
      if (directories.has(path) || above.has(path)) notLazy('directory-replaced', entry);
    } else {
      const before = directories.get(path);
      if (before !== undefined && [...before.xattrs.keys()].some((name) => !entry.xattrs.has(name)))
        notLazy('directory-twice-with-other-attributes', entry);
      directories.set(path, entry);
      for (let up = parentOf(path); up !== '' && !directories.has(up) && !above.has(up); up = parentOf(up))
        above.add(up);
    }
  }
  for (const [path, entry] of whiteouts)
    if (directories.has(path)) notLazy('directory-and-its-whiteout', entry);
}

function checkImplied(tree: TreeNode): void {
  const open: { path: ByteString; node: TreeNode }[] = [{ path: '' as ByteString, node: tree }];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { path, node } = next;
    const givesGroup = (node.mode & SETGID) !== 0 && node.gid !== 0;
    for (const [name, child] of node.children ?? []) {
      if (child.type !== 'directory') continue;
      const below = (path === '' ? name : `${path}/${name}`) as ByteString;
      if (givesGroup && child.isImplied) notLazy('implied-in-setgid-directory', { path: below });
      open.push({ path: below, node: child });
    }
  }
}

function parentOf(path: ByteString): ByteString {
  return path.slice(0, Math.max(0, path.lastIndexOf('/'))) as ByteString;
}

/** The path of which a whiteout tells; an opaque mark's is no directory's. */
function hiddenBy(path: ByteString): ByteString | undefined {
  const at = path.lastIndexOf('/') + 1;
  if (!path.startsWith(WHITEOUT, at)) return undefined;
  return (path.slice(0, at) + path.slice(at + WHITEOUT.length)) as ByteString;
}

/** Its mode, time and attributes are not seen in a container: those of the topmost folder are, which has this owner. */
function checkRoot(entry: LayerEntry): void {
  if (entry.uid !== 0 || entry.gid !== 0) notLazy('root-has-another-owner', entry);
}

function checkXattrNames(entry: LayerEntry): void {
  for (const name of entry.xattrs.keys()) {
    if (name.startsWith(TRUSTED) && !name.startsWith(OVERLAY_MARKS)) notLazy('trusted-xattr', entry);
    if (name.startsWith(ACL)) notLazy('posix-acl', entry);
    const mayBeUsers = ['file', 'directory', 'hardlink'].includes(entry.type);
    if (name.startsWith(USER) && !mayBeUsers) notLazy('user-xattr-not-possible', entry);
  }
}

function notLazy(reason: string, { path }: Pick<LayerEntry, 'path'>): never {
  throw new CodedError('LAYER_NOT_LAZY', { detail: { reason, path: textOf(path) } });
}
