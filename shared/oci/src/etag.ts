/**
 * True where `If-None-Match` says that the client has this: it names the entity tag among others, weak or not, or `*`
 * (RFC 9110, 13.1.2: compared weakly). Clients of registries name a digest without quotes, too. `etag`: with its quotes, as in `ETag`.
 */
export function clientHas(ifNoneMatch: string, etag: string): boolean {
  return ifNoneMatch.split(',').some((one) => {
    const named = one.trim();
    return named === '*' || named.replace(/^W\//, '') === etag || `"${named}"` === etag;
  });
}
