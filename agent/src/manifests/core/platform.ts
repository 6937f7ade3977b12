/** Children of an index that a node of this architecture needs; all of them where none is for it. */
export function ownChildren(
  children: readonly { readonly digest: string; readonly platform: unknown }[],
  architecture: string,
): string[] {
  const own = children.filter(({ platform }) => {
    const { os, architecture: other } = (platform ?? {}) as { os?: unknown; architecture?: unknown };
    return os === 'linux' && other === architecture;
  });
  return [...new Set((own.length > 0 ? own : children).map(({ digest }) => digest))];
}
