import { CodedError } from '@sepia/base/errors';
import { impliedDirectory, type TreeNode } from '../erofs/layer-tree.ts';
import { type ByteString, byteStringOf, textOf } from '../tar/byte-string.ts';
import { OPAQUE, WHITEOUT } from './format.ts';

const OVERLAY_OPAQUE = byteStringOf('trusted.overlay.opaque');
const NAME_BYTES = 255;

/**
 * A layer's tree with overlayfs' marks (see `layerTree`) as one with files named as OCI names whiteouts: what nydus has in
 * the bootstraps of layers, for `nydus-image merge` knows no other by default. Directories are new, all else is shared.
 * @throws {CodedError} `LAYER_NOT_LAZY` for a device 0:0 whose name is too long for it
 */
export function withOciMarks(root: TreeNode): TreeNode {
  const top = copyOf(root);
  const open = [{ from: root, to: top }];
  for (let next = open.pop(); next !== undefined; next = open.pop()) {
    const children = next.to.children!;
    if (next.from.xattrs.has(OVERLAY_OPAQUE)) children.set(OPAQUE, markFile());
    for (const [name, node] of next.from.children!) {
      if (isWhiteout(node)) {
        if (name.length + WHITEOUT.length > NAME_BYTES)
          throw new CodedError('LAYER_NOT_LAZY', {
            detail: { reason: 'name-not-possible', path: textOf(name) },
          });
        children.set(`${WHITEOUT}${name}` as ByteString, markFile());
      } else if (node.type === 'directory') {
        const to = copyOf(node);
        children.set(name, to);
        open.push({ from: node, to });
      } else children.set(name, node);
    }
  }
  return top;
}

/** A directory as another, without what it holds and without overlayfs' mark. */
function copyOf(node: TreeNode): TreeNode {
  const xattrs = new Map(node.xattrs);
  xattrs.delete(OVERLAY_OPAQUE);
  return { ...node, xattrs, children: new Map() };
}

function isWhiteout({ type, devMajor, devMinor }: TreeNode): boolean {
  return type === 'char' && devMajor === 0 && devMinor === 0;
}

function markFile(): TreeNode {
  return { ...impliedDirectory(), type: 'file', mode: 0o644, children: undefined, isImplied: false };
}
