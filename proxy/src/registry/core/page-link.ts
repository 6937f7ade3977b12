/**
 * Value of a `Link` header to the next page. `path` and `ns` are the client's own words, so that the link leads to the
 * same place; values that are undefined are left out.
 */
export function nextLink(path: string, query: Readonly<Record<string, string | undefined>>): string {
  const search = new URLSearchParams();
  for (const [key, value] of Object.entries(query)) if (value !== undefined) search.set(key, value);
  return `<${path}?${search.toString()}>; rel="next"`;
}
