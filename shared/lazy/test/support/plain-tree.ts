import type { TreeNode } from '../../src/erofs/layer-tree.ts';

/** What is shown of a node; content as the caller finds it. */
export interface PlainNode {
  readonly [key: string]: unknown;
}

/** Path → what is there, and which names share it; for comparing two trees. `content`: bytes of a file. */
export function plainTree(root: TreeNode, content: (node: TreeNode) => string): Record<string, PlainNode> {
  const names = new Map<TreeNode, string[]>();
  const visit = (path: string, node: TreeNode): void => {
    names.set(node, [...(names.get(node) ?? []), path]);
    for (const [name, child] of node.children ?? []) visit(path === '' ? name : `${path}/${name}`, child);
  };
  visit('', root);
  const shown: [string, PlainNode][] = [];
  for (const [node, paths] of names) {
    const { type, mode, uid, gid, mtimeSec, mtimeNsec, devMajor, devMinor, link } = node;
    const isDevice = type === 'char' || type === 'block';
    const one: PlainNode = {
      ...{ type, mode, uid, gid, mtimeSec, mtimeNsec, link },
      device: isDevice ? `${devMajor}:${devMinor}` : '',
      xattrs: [...node.xattrs].map(([name, value]) => `${name}=${Buffer.from(value).toString('hex')}`).sort(),
      content: type === 'file' ? content(node) : '',
      names: [...paths].sort(),
    };
    for (const path of paths) shown.push([path, one]);
  }
  return Object.fromEntries(shown.sort(([one], [other]) => (one < other ? -1 : 1)));
}
