/**
 * `upstream=…&repository=…` and more, escaped: how calls between members name a repository. The order is fixed, so that
 * equal names give equal text.
 */
export function nameQuery(
  name: { readonly upstream: string; readonly repository: string },
  more: Readonly<Record<string, string>> = {},
): string {
  return new URLSearchParams({ upstream: name.upstream, repository: name.repository, ...more }).toString();
}
