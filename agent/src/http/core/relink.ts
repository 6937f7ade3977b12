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
