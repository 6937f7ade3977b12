/** An address of the distribution API of a registry, whose URL may have a path before `/v2/`. */
export function apiUrl(base: URL, path: string): URL {
  const before = base.pathname.replace(/\/+$/, '').replace(/\/v2$/, '');
  return new URL(`${before}/v2/${path}`, base);
}
