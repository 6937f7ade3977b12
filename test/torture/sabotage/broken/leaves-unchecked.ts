export * from '@sepia/metainfo/tree';

/** Every leaf is right. */
export function isLeaf(): boolean {
  return true;
}
