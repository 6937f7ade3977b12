import { hash } from 'node:crypto';

/** A member as the configured membership names it. `id` is persistent, never an address; `weight` > 0. */
export interface RingMember {
  readonly id: string;
  readonly weight: number;
  /** `draining` members own nothing new; `joining` ones own as active ones do. */
  readonly state: 'joining' | 'active' | 'draining';
}

/** Who keeps a key, from the configured membership alone: health never changes it. */
export interface Ownership {
  /** All members that are not draining, in rendezvous order, then the draining ones in theirs. */
  readonly order: readonly string[];
  /** The first R of `order`. */
  readonly owners: readonly string[];
  /** The next two of `order`: they take a hint while an owner is away. Never draining. */
  readonly standIns: readonly string[];
  /** R = min(3, members that are not draining). */
  readonly replicas: number;
  /** W = ⌊R/2⌋ + 1. */
  readonly writeQuorum: number;
}

/** All that could hold an acknowledged copy: owners, then stand-ins, in ring order. */
export function candidatesOf({ owners, standIns }: Pick<Ownership, 'owners' | 'standIns'>): string[] {
  return [...owners, ...standIns];
}

/** Who decides about a key now: its owners; in a ring change the old and the new ones. */
export interface Shard {
  /** Of the membership: grows with every step of a ring change. */
  readonly epoch: number;
  readonly sets: readonly (readonly string[])[];
}

const MAX_REPLICAS = 3;
/** Members behind the owners that take a copy while one of them is away. */
export const STAND_INS = 2;
const SCORE_BITS = 53;

/**
 * Weighted rendezvous order of `members` for `key`, best first: score = −weight / ln(h), where h in (0, 1) comes
 * from the first 8 bytes of SHA-256(id ‖ 0 ‖ key). A member that leaves moves only its own keys. Ties break by id.
 */
export function rendezvous(
  key: string,
  members: readonly { readonly id: string; readonly weight: number }[],
): string[] {
  const scored = members.map(({ id, weight }) => ({ id, score: score(key, id, weight) }));
  scored.sort((a, b) => b.score - a.score || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
  return scored.map(({ id }) => id);
}

/** Owners and stand-ins of a digest or record key. @throws {TypeError} on a repeated id or a weight that is not positive */
export function ownersOf(key: string, members: readonly RingMember[]): Ownership {
  checkMembers(members);
  const able = rendezvous(
    key,
    members.filter(({ state }) => state !== 'draining'),
  );
  const draining = rendezvous(
    key,
    members.filter(({ state }) => state === 'draining'),
  );
  const replicas = Math.min(MAX_REPLICAS, able.length);
  return {
    order: [...able, ...draining],
    owners: able.slice(0, replicas),
    standIns: able.slice(replicas, replicas + STAND_INS),
    replicas,
    writeQuorum: majority(replicas),
  };
}

/** W of so many owners: 1 of 1, 2 of 2, 2 of 3. */
export function majority(replicas: number): number {
  return Math.floor(replicas / 2) + 1;
}

function score(key: string, id: string, weight: number): number {
  const head = hash('sha256', `${id}\0${key}`, 'buffer');
  const bits = head.readUInt32BE(0) * 2 ** (SCORE_BITS - 32) + (head.readUInt32BE(4) >>> (64 - SCORE_BITS));
  const h = (bits + 0.5) / 2 ** SCORE_BITS;
  return -weight / Math.log(h);
}

function checkMembers(members: readonly RingMember[]): void {
  const ids = new Set<string>();
  for (const { id, weight } of members) {
    if (ids.has(id)) throw new TypeError(`member ${id} is named twice`);
    if (!(weight > 0 && Number.isFinite(weight))) throw new TypeError(`weight ${weight} of member ${id}`);
    ids.add(id);
  }
}
