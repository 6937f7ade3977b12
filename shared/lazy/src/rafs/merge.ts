import { impliedDirectory, type TreeNode } from '../erofs/layer-tree.ts';
import type { Unfit } from '../estargz/arrange.ts';
import type { Compressor } from '../pack/unpack.ts';
import { type ByteString, byteStringOf, textOf } from '../tar/byte-string.ts';
import { cleanPath } from '../tar/tar-entry.ts';
import { type Bootstrap, MAX_BLOBS, OPAQUE, type RafsBlob, type RafsChunk, WHITEOUT } from './format.ts';
import type { ReadBootstrap } from './read-bootstrap.ts';

/** A layer as it was converted: its bootstrap, and what a bootstrap cannot say. */
export interface LayerPart {
  readonly bootstrap: ReadBootstrap;
  /** Directories that no entry of the layer describes. */
  readonly implied: ReadonlySet<string>;
  /** Hard links to files of lower layers, path to target. */
  readonly outside: ReadonlyMap<string, string>;
}

/**
 * The bootstrap of an image: its layers unpacked one after the other, whiteouts applied. Directories that a layer only
 * implies leave those of lower layers as they are. Blobs that nothing refers to are left out.
 * @param layers from the bottom to the top
 * @returns why there is none, where the layers together make no tree
 */
export function mergeLayers(
  layers: readonly LayerPart[],
  options: {
    readonly chunkBytes: number;
    readonly compressor: Compressor;
    readonly prioritized: readonly string[];
  },
): Bootstrap | Unfit {
  const root = impliedDirectory();
  for (const layer of layers) {
    const fault = apply(root, layer);
    if (fault !== undefined) return { unfit: fault };
  }
  const byNode = new Map<TreeNode, readonly RafsChunk[]>();
  for (const { bootstrap } of layers) for (const [node, chunks] of bootstrap.chunks) byNode.set(node, chunks);
  const chunks = new Map<TreeNode, readonly RafsChunk[]>();
  for (const node of filesOf(root)) chunks.set(node, byNode.get(node) ?? []);
  const used = new Set<RafsBlob>();
  for (const own of chunks.values()) for (const { blob } of own) used.add(blob);
  const all = new Set(layers.flatMap(({ bootstrap }) => bootstrap.blobs));
  const blobs = [...all].filter((blob) => used.has(blob));
  if (blobs.length > MAX_BLOBS)
    return { unfit: `it would have ${blobs.length} data blobs; Nydus knows ${MAX_BLOBS}` };
  const prefetch = options.prioritized.flatMap((name) => {
    const node = nodeAt(root, cleanPath(byteStringOf(name)));
    return node?.type === 'file' ? [node] : [];
  });
  const { chunkBytes, compressor } = options;
  return { root, chunks, blobs, chunkBytes, compressor, prefetch: [...new Set(prefetch)] };
}

/** Unpacks a layer over `root`. @returns why it cannot be, or undefined */
function apply(root: TreeNode, { bootstrap, implied, outside }: LayerPart): string | undefined {
  const links: [string, TreeNode][] = [];
  for (const [path, target] of outside) {
    const node = nodeAt(root, target as ByteString);
    if (node === undefined || node.type === 'directory')
      return `hard-link-to-nothing: ${textOf(path as ByteString)}`;
    links.push([path, node]);
  }
  const open = [{ path: '', lower: root, upper: bootstrap.root }];
  if (!implied.has('')) describe(root, bootstrap.root);
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const children = next.lower.children!;
    hide(children, next.upper);
    for (const [name, node] of next.upper.children!) {
      if (name.startsWith(WHITEOUT)) continue;
      if (node.type !== 'directory') {
        children.set(name, node);
        continue;
      }
      const path = next.path === '' ? name : `${next.path}/${name}`;
      const isImplied = implied.has(path);
      let below = children.get(name);
      if (isImplied && below?.type === 'symlink')
        return `path-through-link-below: ${textOf(path as ByteString)}`;
      if (below?.type !== 'directory') {
        below = { ...node, children: new Map() };
        children.set(name, below);
      } else if (!isImplied) describe(below, node);
      open.push({ path, lower: below, upper: node });
    }
  }
  for (const [path, node] of links) {
    const slash = path.lastIndexOf('/');
    const parent = nodeAt(root, path.slice(0, Math.max(0, slash)) as ByteString);
    parent?.children?.set(path.slice(slash + 1) as ByteString, node);
  }
  return undefined;
}

/** Takes away what the marks of a layer's directory name. */
function hide(children: Map<ByteString, TreeNode>, upper: TreeNode): void {
  if (upper.children!.has(OPAQUE)) children.clear();
  for (const name of upper.children!.keys())
    if (name.startsWith(WHITEOUT) && name !== OPAQUE)
      children.delete(name.slice(WHITEOUT.length) as ByteString);
}

/** Gives a directory the attributes of another. */
function describe(directory: TreeNode, { mode, uid, gid, mtimeSec, mtimeNsec, xattrs }: TreeNode): void {
  Object.assign(directory, { mode, uid, gid, mtimeSec, mtimeNsec, xattrs });
}

/** The node at a path, without following links. */
export function nodeAt(root: TreeNode, path: ByteString): TreeNode | undefined {
  if (path === '') return root;
  let node: TreeNode | undefined = root;
  for (const part of path.split('/')) node = node?.children?.get(part as ByteString);
  return node;
}

/** Each file once, in the order of the tree. */
export function filesOf(root: TreeNode): Set<TreeNode> {
  const found = new Set<TreeNode>();
  const open = [root];
  for (let next = open.pop(); next !== undefined; next = open.pop())
    for (const node of next.children!.values()) {
      if (node.type === 'file') found.add(node);
      if (node.type === 'directory') open.push(node);
    }
  return found;
}
