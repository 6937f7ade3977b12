const MARK = 'stranger ';

/**
 * How the core names a peer that is no member: by its address. What it says of itself counts for nothing; it could name
 * itself like a member and have that one banned.
 */
export function strangerId(address: string): string {
  return MARK + address;
}

/** True for the id that a link to a stranger goes by. */
export function isStrangerId(peerId: string): boolean {
  return peerId.startsWith(MARK);
}

/** Whom a ban is about: a member by its id, a stranger by its host, whatever its port. */
export function banIdOf(peerId: string): string {
  return isStrangerId(peerId) ? peerId.slice(0, peerId.lastIndexOf(':')) : peerId;
}
