/** Addresses in the order to dial them: as they came, but the two families in turn (RFC 8305, 4): one of them may lead nowhere. */
export function inDialOrder<A extends { readonly family: number }>(addresses: readonly A[]): readonly A[] {
  const [first] = addresses;
  const own = addresses.filter((one) => one.family === first?.family);
  const other = addresses.filter((one) => one.family !== first?.family);
  return Array.from({ length: Math.max(own.length, other.length) }, (_, at) => [own[at], other[at]])
    .flat()
    .filter((one) => one !== undefined);
}
