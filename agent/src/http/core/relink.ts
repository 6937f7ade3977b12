/**
 * A proxy's `Link: <path?query>; rel="next"` in the client's own words: its path and `ns`, so that it leads back to
 * this node. Undefined for a header that is none.
 */
export function relink(link: string | undefined, path: string, ns: string | undefined): string | undefined {
  const query = /^<[^>?]*\?([^>]*)>\s*;\s*rel="?next"?$/.exec(link ?? '')?.[1];
  if (query === undefined) return undefined;
  const search = new URLSearchParams(query);
  if (ns !== undefined) search.set('ns', ns);
  return `<${path}?${search.toString()}>; rel="next"`;
}

/** A proxy's list of tags with the repository in the client's own words. A list that is none stays as it is. */
export function renamed(list: string, name: string): string {
  const value = JSON.parse(list) as { name?: unknown } | null;
  if (typeof value?.name !== 'string' || value.name === name) return list;
  return JSON.stringify({ ...value, name });
}
