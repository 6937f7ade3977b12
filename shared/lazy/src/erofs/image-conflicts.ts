import type { LayerEntry } from '../index/layer-entry.ts';
import type { ByteString } from '../tar/byte-string.ts';
import { isWhiteout, isWhiteoutPath, type TreeNode } from './layer-tree.ts';

/** Why layers, mounted one over the other, would not be what unpacking them one after the other gives. */
export interface Conflict {
  /** Index of the upper layer, from the bottom. */
  readonly layer: number;
  readonly path: ByteString;
  readonly reason: 'implied-directory-differs-below' | 'path-through-link-below' | 'whiteout-in-lowest-layer';
}

/**
 * A whiteout that the lowest layer of an image must not have. Who unpacks that layer takes away what it has itself under the
 * name (of an opaque directory: directories that only paths name), and leaves nothing else; a mounted one has a device there,
 * which overlayfs lists and nobody can open.
 * @param entries of the lowest layer
 */
export function lowestConflict(entries: Iterable<Pick<LayerEntry, 'path'>>): Conflict | undefined {
  for (const { path } of entries)
    if (isWhiteoutPath(path)) return { layer: 0, path, reason: 'whiteout-in-lowest-layer' };
  return undefined;
}

/**
 * Looks at each directory that a layer only implies (a path goes through it, no entry describes it). Unpacking puts files
 * into what is there from lower layers; a mounted layer shows a directory of its own, root's with mode 0755, over it. That
 * is the same only where the lower one is such a directory, or where there is none.
 * @param layers trees from the bottom to the top
 */
export function imageConflicts(layers: readonly TreeNode[]): Conflict[] {
  return layers.flatMap((tree, layer) => conflictsOf(tree, layers.slice(0, layer).toReversed(), layer));
}

/** Paths of the directories that a layer only implies, but for its root: without any there is no conflict. */
export function impliedDirectories(tree: TreeNode): ByteString[] {
  const found: ByteString[] = [];
  const open: { path: ByteString; node: TreeNode }[] = [{ path: '' as ByteString, node: tree }];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { path, node } = next;
    if (node.isImplied && path !== '') found.push(path);
    for (const [name, child] of node.children ?? [])
      if (child.type === 'directory')
        open.push({ path: (path === '' ? name : `${path}/${name}`) as ByteString, node: child });
  }
  return found;
}

/** What of a tree lies on the ways to these paths: conflicts of layers are those of their outlines by all implied directories. */
export function outlineOf(tree: TreeNode, paths: Iterable<ByteString>): TreeNode {
  const root = bare(tree);
  for (const path of paths) {
    let node: TreeNode | undefined = tree;
    let copy = root;
    for (const name of path.split('/') as ByteString[]) {
      node = node.children?.get(name);
      if (node === undefined) break;
      const next = copy.children?.get(name) ?? bare(node);
      copy.children?.set(name, next);
      copy = next;
    }
  }
  return root;
}

function bare(node: TreeNode): TreeNode {
  return { ...node, children: node.children === undefined ? undefined : new Map() };
}

function conflictsOf(tree: TreeNode, below: readonly TreeNode[], layer: number): Conflict[] {
  const found: Conflict[] = [];
  const open: { path: ByteString; node: TreeNode; below: readonly TreeNode[] }[] = [
    { path: '' as ByteString, node: tree, below },
  ];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const { path, node } = next;
    const lower = next.below[0];
    if (node.isImplied && path !== '' && lower !== undefined) {
      if (lower.type === 'symlink') found.push({ layer, path, reason: 'path-through-link-below' });
      else if (lower.type === 'directory' && !isPlain(lower))
        found.push({ layer, path, reason: 'implied-directory-differs-below' });
    }
    for (const [name, child] of node.children ?? []) {
      if (child.type !== 'directory') continue;
      const childPath = (path === '' ? name : `${path}/${name}`) as ByteString;
      open.push({ path: childPath, node: child, below: seenBelow(next.below, name) });
    }
  }
  return found;
}

/**
 * What lower directories have under a name, topmost first, as far down as no whiteout or file is between. Opaque marks hide
 * nothing here: who unpacks makes a directory as it is in the first layer below that has it, and looks for it through the
 * links of that layer, which may be hidden by then. Such a link stands for what it leads to.
 */
function seenBelow(directories: readonly TreeNode[], name: ByteString): TreeNode[] {
  const seen: TreeNode[] = [];
  for (const directory of directories) {
    if (directory.type === 'symlink') seen.push(directory);
    if (directory.type !== 'directory') break;
    const node = directory.children?.get(name);
    if (node !== undefined) {
      if (isWhiteout(node)) break;
      seen.push(node);
      if (node.type !== 'directory') break;
    }
  }
  return seen;
}

function isPlain(node: TreeNode): boolean {
  return (
    node.isImplied || (node.mode === 0o755 && node.uid === 0 && node.gid === 0 && node.xattrs.size === 0)
  );
}
