import { createHash } from 'node:crypto';
import { CodedError } from '@sepia/base/errors';
import type { ClusterDocument, Member } from './document.ts';
import { majority, type Ownership, ownersOf, type Shard, STAND_INS } from './ring.ts';

/** Epochs that a membership names of its own past: those of 32 changes. The oldest that is known stays besides. */
const ANCESTORS = 64;

/** An earlier epoch of a ring. `hash` covers its members and the hash of the epoch before it, as in a chain. */
export interface Ancestor {
  readonly epoch: number;
  readonly hash: string;
}

/**
 * Who keeps records and pushed blobs, as the origins agreed. An even `epoch` is settled; an odd one is a ring change
 * under way: `before` are the origins that it began with, and each key is owned by its old and its new owners.
 */
export interface Membership {
  readonly v: 1;
  readonly epoch: number;
  readonly origins: readonly Member[];
  readonly before?: readonly Member[];
  /** In words: what the change under way does. */
  readonly change?: string;
  /** The epochs that it came from, oldest first; memberships of earlier versions name none. */
  readonly lineage?: readonly Ancestor[];
}

/**
 * What an operator changes of the ring: origins join it, hand over what they keep (`drain`), and leave it once they are drained
 * (`remove`).
 */
export type RingChange =
  | { readonly action: 'add'; readonly members: readonly Member[] }
  | { readonly action: 'drain' | 'remove'; readonly ids: readonly string[] };

/** The membership that the cluster document names: of a cluster that was never changed otherwise. */
export function foundingMembership(document: Pick<ClusterDocument, 'members'>): Membership {
  return { v: 1, epoch: 0, origins: document.members.filter(({ role }) => role === 'origin') };
}

/** True while a change of the ring is under way: its epochs are odd. */
export function isMoving({ epoch }: Pick<Membership, 'epoch'>): boolean {
  return epoch % 2 === 1;
}

/** Ids of those that own keys: in a change the old ones and the new ones. */
export function owningIds({ origins, before = [] }: Pick<Membership, 'origins' | 'before'>): string[] {
  return [...new Set([...before, ...origins].filter(isActive).map(({ id }) => id))];
}

/** True if `id` owns keys by the change under way, and owned none when it began: it was outside, or drained. */
export function joinsBy({ origins, before }: Pick<Membership, 'origins' | 'before'>, id: string): boolean {
  const isOwner = (members: readonly Member[]): boolean =>
    members.some((one) => one.id === id && isActive(one));
  return before !== undefined && isOwner(origins) && !isOwner(before);
}

/** Majorities of these decide about the next membership. */
export function electorate(membership: Membership): Shard {
  const { epoch, origins, before } = membership;
  const sets = [...(before === undefined ? [] : [before]), origins];
  return { epoch, sets: sets.map((set) => set.filter(isActive).map(({ id }) => id)) };
}

/** The owners that decide about a key: in a ring change the old and the new ones, where these are others. */
export function shardOf(key: string, { epoch, origins, before }: Membership): Shard {
  const now = ownersOf(key, origins).owners;
  const old = before === undefined ? now : ownersOf(key, before).owners;
  const isSame = old.length === now.length && old.every((id) => now.includes(id));
  return { epoch, sets: isSame ? [now] : [old, now] };
}

/**
 * Who keeps a key: its owners; in a change the old ones, then those that are new. Stand-ins are not among them.
 * `writeQuorum` is then the smaller one: so many silent ones could hide an acknowledged copy.
 */
export function ownershipOf(key: string, { origins, before }: Membership): Ownership {
  const now = ownersOf(key, origins);
  if (before === undefined) return now;
  const old = ownersOf(key, before);
  const owners = [...new Set([...old.owners, ...now.owners])];
  const order = [...new Set([...owners, ...now.order, ...old.order])];
  const draining = new Set(origins.filter((one) => !isActive(one)).map(({ id }) => id));
  const spare = [...now.standIns, ...old.standIns].filter((id) => !owners.includes(id) && !draining.has(id));
  return {
    order,
    owners,
    standIns: [...new Set(spare)].slice(0, STAND_INS),
    replicas: Math.min(old.replicas, now.replicas),
    writeQuorum: Math.min(old.writeQuorum, now.writeQuorum),
  };
}

/**
 * The first step of a change: from here on old and new owners decide together.
 * @throws {CodedError} `CONFLICT` while another change is under way, `REQUEST_INVALID` for one that is not possible
 */
export function beginChange(membership: Membership, change: RingChange): Membership {
  if (isMoving(membership))
    throw new CodedError('RING_CHANGING', { detail: { epoch: membership.epoch, change: membership.change } });
  const { epoch, origins } = membership;
  const ids = change.action === 'add' ? change.members.map(({ id }) => id) : change.ids;
  if (ids.length === 0 || new Set(ids).size !== ids.length) throw refused('name each origin once');
  const after = change.action === 'add' ? added(origins, change.members) : without(origins, change);
  if (!after.some(isActive)) throw refused('at least one origin must go on keeping content');
  return {
    v: 1,
    epoch: epoch + 1,
    origins: after,
    before: origins,
    change: `${change.action} ${ids.join(', ')}`,
    lineage: lineageAfter(membership),
  };
}

/** The last step: the new owners alone. */
export function endChange(membership: Membership): Membership {
  const { epoch, origins } = membership;
  return { v: 1, epoch: epoch + 1, origins, lineage: lineageAfter(membership) };
}

/** How far one origin is with its part of a change. */
export interface MoveReport {
  readonly id: string;
  /** Of the membership that it works by. */
  readonly epoch: number;
  /** It has taken over all that it will own, and settled all registers that it owned before. */
  readonly isDone: boolean;
}

/**
 * Whom a change still waits for: every new owner must have taken over, and of the old owners all but as many as a
 * majority of owners can do without.
 */
export function waitsFor(membership: Membership, reports: readonly MoveReport[]): string[] {
  const { epoch, origins, before = [] } = membership;
  const done = new Set(reports.filter((one) => one.epoch === epoch && one.isDone).map(({ id }) => id));
  const lacking = origins.filter(isActive).filter(({ id }) => !done.has(id));
  const left = before.filter(isActive).filter(({ id }) => !done.has(id));
  const isEnough = left.length <= spareOf(before);
  return [...new Set([...lacking, ...(isEnough ? [] : left)].map(({ id }) => id))];
}

/** So many members may be missing, whichever they are, and of every key's owners a majority is there: R − W. */
export function spareOf(members: readonly Member[]): number {
  const { replicas } = ownersOf('', members);
  return replicas - majority(replicas);
}

/**
 * What a cluster document changed by hand would lose: origins taken out, weights and states changed since it was read
 * last, of those that keep content. Empty if nothing.
 */
export function handEdits(membership: Membership, last: readonly Member[], now: readonly Member[]): string[] {
  const kept = new Map([...(membership.before ?? []), ...membership.origins].map((one) => [one.id, one]));
  const found: string[] = [];
  for (const was of last) {
    const member = kept.get(was.id);
    if (member === undefined || (!isActive(member) && !isMoving(membership))) continue;
    const is = now.find(({ id }) => id === was.id);
    if (is === undefined) found.push(`${was.id} is not in it any more, and keeps content`);
    else if (is.weight !== was.weight) found.push(`the weight of ${was.id} was ${was.weight}`);
    else if (is.state !== was.state && is.state !== member.state)
      found.push(`the state of ${was.id} is ${member.state}`);
  }
  return found;
}

/** True if both name the same origins, with the same weights and states. Addresses may differ. */
function isSameRing(one: Membership, other: Membership): boolean {
  return ringInWords(one) === ringInWords(other);
}

/** True if both have the same epoch, the same members, and the same members at the beginning of the change. */
function isSameMembership(one: Membership, other: Membership): boolean {
  return one.epoch === other.epoch && isSameRing(one, other) && beganWith(one) === beganWith(other);
}

/**
 * The first epoch at which both are known to be different rings; undefined where nothing says that they are. Compared is
 * each epoch that both name, as their own or in their lineage. ADR 0068.
 */
export function forkOf(one: Membership, other: Membership): number | undefined {
  const [early, late] = one.epoch <= other.epoch ? [one, other] : [other, one];
  const past = new Map((late.lineage ?? []).map(({ epoch, hash }) => [epoch, hash]));
  const isFork = ({ epoch, hash }: Ancestor): boolean => past.has(epoch) && past.get(epoch) !== hash;
  const fork = (early.lineage ?? []).find(isFork);
  if (fork !== undefined) return fork.epoch;
  const isSame = early.epoch === late.epoch ? isSameMembership(early, late) : !isFork(ancestorOf(early));
  return isSame ? undefined : early.epoch;
}

/**
 * Epochs alone do not tell two rings apart: whoever knows one refuses another of the same epoch, and a later one that
 * came from another. An older one is no matter. `from`: who says so.
 * @throws {CodedError} `CONFLICT` that names both
 */
export function refuseOtherRing(known: Membership, told: Membership, from: string): void {
  if (told.epoch < known.epoch) return;
  const epoch = forkOf(known, told);
  if (epoch === undefined) return;
  const isLater = told.epoch > known.epoch;
  const [at, here] = isLater ? [` (epoch ${told.epoch})`, ` (epoch ${known.epoch})`] : ['', ''];
  throw new CodedError('CONFLICT', {
    message: `ring: two rings have epoch ${epoch}: ${from} names ${ringInWords(told)}${at}; known here: ${ringInWords(known)}${here}; those that are wrong must be started empty, one at a time`,
    detail: { epoch },
  });
}

/** A membership, and the origin that told of it. */
export interface ToldRing {
  readonly by: string;
  readonly membership: Membership;
}

/** What several members told of the ring. */
interface ToldRings {
  /** The newest membership of the ring that most members told of; undefined if nobody told of one. */
  readonly ring: Membership | undefined;
  /** So many told of that ring. */
  readonly count: number;
  /** Who told of another ring, and which. */
  readonly others: readonly ToldRing[];
}

/**
 * The ring that most name, for whoever knows none yet: one folder of another cluster must not decide. Where as many name
 * one as another, the one with the newest epoch stands.
 */
export function ringOfMost(told: readonly ToldRing[]): ToldRings {
  const rings: ToldRing[][] = [];
  for (const one of told.toSorted((a, b) => b.membership.epoch - a.membership.epoch)) {
    const same = rings.find((ring) =>
      ring.every(({ membership }) => forkOf(membership, one.membership) === undefined),
    );
    if (same === undefined) rings.push([one]);
    else same.push(one);
  }
  const [most = [], ...rest] = rings.toSorted((a, b) => b.length - a.length);
  return { ring: most[0]?.membership, count: most.length, others: rest.flat() };
}

/** What keys are placed by, in words: origins with weights and states, in the order of their ids. */
export function ringInWords({ origins }: Membership): string {
  const words = origins.map(
    (one) => `${one.id} (weight ${one.weight}${isActive(one) ? '' : `, ${one.state}`})`,
  );
  return words.sort().join(', ');
}

function beganWith({ before = [] }: Membership): string {
  return ringInWords({ v: 1, epoch: 0, origins: before });
}

/** NOTE: the hashed text must never change: every version must get the same hash for an epoch. */
function ancestorOf(membership: Membership): Ancestor {
  const { epoch, lineage = [] } = membership;
  const text = [lineage.at(-1)?.hash ?? '', epoch, ringInWords(membership), beganWith(membership)].join('\n');
  return { epoch, hash: createHash('sha256').update(text).digest('hex').slice(0, 32) };
}

function lineageAfter(parent: Membership): Ancestor[] {
  const [oldest, ...later] = [...(parent.lineage ?? []), ancestorOf(parent)];
  return [oldest!, ...later.slice(-ANCESTORS)];
}

function added(origins: readonly Member[], members: readonly Member[]): Member[] {
  for (const { id, role } of members) {
    if (role !== 'origin') throw refused(`${id} is no origin`);
    const known = origins.find((one) => one.id === id);
    if (known !== undefined && isActive(known)) throw refused(`${id} is in the ring already`);
  }
  const ids = new Set(members.map(({ id }) => id));
  return [
    ...origins.filter(({ id }) => !ids.has(id)),
    ...members.map((one) => ({ ...one, state: 'active' as const })),
  ];
}

function without(
  origins: readonly Member[],
  change: Extract<RingChange, { ids: readonly string[] }>,
): Member[] {
  for (const id of change.ids) {
    const member = origins.find((one) => one.id === id);
    if (member === undefined) throw refused(`${id} is not in the ring`);
    if (change.action === 'drain' && !isActive(member)) throw refused(`${id} is drained already`);
    if (change.action === 'remove' && isActive(member))
      throw refused(`${id} keeps content; first: sepia ring drain ${id}`);
  }
  if (change.action === 'remove') return origins.filter(({ id }) => !change.ids.includes(id));
  return origins.map((one) => (change.ids.includes(one.id) ? { ...one, state: 'draining' as const } : one));
}

function isActive({ state }: Pick<Member, 'state'>): boolean {
  return state !== 'draining';
}

function refused(message: string): CodedError {
  return new CodedError('REQUEST_INVALID', { message: `ring: ${message}` });
}
