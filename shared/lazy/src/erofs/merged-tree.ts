import { type ByteString, byteStringOf, textOf } from '../tar/byte-string.ts';
import { isOpaque, isWhiteout, type TreeNode } from './layer-tree.ts';

/** What an image's layers show at a path, mounted one over the other. */
export interface Found {
  /** Index of the layer that it comes from, from the bottom. */
  readonly layer: number;
  readonly node: TreeNode;
  /** Where it is, without links: begins with `/`. */
  readonly path: string;
}

/** Links that are followed for one path, as Linux does. */
const MAX_LINKS = 40;

/**
 * Finds what an image shows at a path, through symbolic links, whiteouts and opaque directories, as overlayfs would.
 * @param layers trees from the bottom to the top
 * @param path absolute, as text
 * @returns undefined where nothing is there, or links lead in a circle
 */
export function findMerged(layers: readonly TreeNode[], path: string): Found | undefined {
  const root: Found[] = layers.map((node, layer) => ({ layer, node, path: '/' })).toReversed();
  let todo = byteStringOf(path).split('/');
  let at: Found[][] = [root];
  for (let links = 0; todo.length > 0; ) {
    const [name, ...rest] = todo as [ByteString, ...ByteString[]];
    todo = rest;
    if (name === '' || name === '.') continue;
    if (name === '..') {
      if (at.length > 1) at = at.slice(0, -1);
      continue;
    }
    const seen = shownAt(at.at(-1)!, name);
    const [top] = seen;
    if (top === undefined) return undefined;
    if (top.node.type !== 'symlink') {
      at = [...at, seen];
      continue;
    }
    links += 1;
    if (links > MAX_LINKS) return undefined;
    if (top.node.link.startsWith('/')) at = [root];
    todo = [...top.node.link.split('/'), ...rest];
  }
  return at.at(-1)![0];
}

/** The nodes under a name, topmost first, down to where one hides what is below. */
function shownAt(directories: readonly Found[], name: ByteString): Found[] {
  const seen: Found[] = [];
  for (const { layer, node: directory, path } of directories) {
    if (directory.type !== 'directory') break;
    const node = directory.children?.get(name);
    if (node !== undefined) {
      if (isWhiteout(node)) break;
      if (seen.length > 0 && node.type !== 'directory') break;
      seen.push({ layer, node, path: `${path === '/' ? '' : path}/${textOf(name)}` });
      if (node.type !== 'directory' || isOpaque(node)) break;
    }
    if (isOpaque(directory)) break;
  }
  return seen;
}
