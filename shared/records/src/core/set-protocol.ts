import { type Entry, fieldsOf, isShown, type Join } from './join.ts';
import { counted, isQuorum, type Sender } from './standing.ts';

/*
 * What the owners of a set decide, and who writes to them: without clock, network or disk. `npm run model` runs it under
 * random schedules with lost disks, disks set back, restarts, and tombstones that go.
 */

/** What an owner has once it took `now` over; undefined if that says nothing new. */
export function taken(before: Entry | undefined, now: Entry, join: Join): Entry | undefined {
  const joined = join(before ?? now, now);
  return joined === before ? undefined : joined;
}

/** True if an owner with `own` loses nothing where a former owner drops `theirs`: it has that, or what hides it. ADR 0071. */
export function isCovered(own: Entry | undefined, theirs: Entry, join: Join): boolean {
  return taken(own, theirs, join) === undefined;
}

/**
 * Clock of what stands in the way of a write, where `standing` is what its owner has after it took the write over;
 * undefined if all that it says stands there. By field, a write may be news in part: its clock alone is remembered, or
 * some of its fields.
 */
export function inTheWay(wanted: Entry, standing: Entry | undefined, byField: boolean): number | undefined {
  return standing === undefined || isShown(wanted, standing, byField) ? undefined : standing.atMs;
}

/**
 * Clock under which all that a write says stands with an owner already; undefined unless it is later than the write's. That
 * owner keeps nothing of the write's clock, so a record between the two clocks, which the others may have, would still win:
 * the write has to be made again under this clock before it is acknowledged.
 */
export function standsLater(
  wanted: Entry,
  standing: Entry | undefined,
  byField: boolean,
): number | undefined {
  if (standing === undefined || standing.atMs <= wanted.atMs) return undefined;
  if (!byField || wanted.value === undefined || standing.value === undefined) return standing.atMs;
  const fields = fieldsOf(wanted.value as object);
  const latestMs = Math.max(...fields.map(([name]) => standing.fieldMs?.[name] ?? standing.atMs));
  return latestMs > wanted.atMs ? latestMs : undefined;
}

/** What owners told a writer of clocks: the latest one in its way, and the latest under which it stands already. */
export interface ToldClocks {
  readonly behindMs?: number | undefined;
  readonly aheadMs?: number | undefined;
}

/**
 * Clock of a write: the writer's, or later than the latest one that it was told stands in its way. Where nothing does, it is
 * the clock under which the same stands somewhere: many writers of the same agree on one so.
 */
export function clockOf(nowMs: number, { behindMs, aheadMs }: ToldClocks = {}): number {
  // Whole, also where a tombstone stands half a millisecond above a floor.
  const sameMs = aheadMs === undefined ? undefined : Math.ceil(aheadMs);
  if (behindMs !== undefined) return Math.max(nowMs, Math.floor(behindMs) + 1, sameMs ?? 0);
  return sameMs ?? nowMs;
}

/**
 * Where a write to several owners stands. `acks`: owners that took it; `open`: those that may still answer; `sets`: the
 * owners, in a ring change the old and the new ones.
 */
export function writeStep(
  acks: readonly { readonly sender: Sender }[],
  open: Iterable<string>,
  sets: readonly (readonly string[])[],
): 'done' | 'open' | 'lost' {
  const good = counted(acks).map(({ sender }) => sender.id);
  if (isQuorum(good, sets)) return 'done';
  return isQuorum([...good, ...open], sets) ? 'open' : 'lost';
}

/** What follows when a try of a write is over: another one, under a later clock or with other owners, or its end. */
export function tryStep(ended: {
  readonly isAcknowledged: boolean;
  /** Latest clock that an owner said stands in the way. */
  readonly behindMs: number | undefined;
  /** Latest clock under which an owner that acknowledged it has the same, see {@link standsLater}. */
  readonly aheadMs?: number | undefined;
  /** The membership changed meanwhile. */
  readonly isMoved: boolean;
  /** Tries that are left. */
  readonly left: number;
}): 'done' | 'again' | 'failed' | 'conflict' {
  if (ended.behindMs === undefined) {
    if (ended.isAcknowledged && ended.aheadMs === undefined) return 'done';
    if (!ended.isAcknowledged && !ended.isMoved) return 'failed';
  }
  return ended.left > 0 ? 'again' : 'conflict';
}

/** The entry that stands, by the answers of enough owners; undefined if none of them has one. */
export function standingOf<E>(told: readonly (E | undefined)[], join: (a: E, b: E) => E): E | undefined {
  const found = told.filter((one): one is E => one !== undefined);
  return found.length === 0 ? undefined : found.reduce((a, b) => join(a, b));
}

/**
 * True if an owner that lacks an entry shows by that that it is gone: it counted before it told its records, and after.
 * One that is being handed over to itself may have lost it.
 */
export function isWitness(source: { readonly settled: boolean }): boolean {
  return source.settled;
}

/**
 * True if a new generation drops an entry that its folder had: all other owners are known to lack it. What only one disk
 * has may be what a disk that was set back brings back. `lacking`: of {@link isWitness | witnesses}.
 */
export function isAlone(
  owners: readonly string[],
  selfId: string,
  lacking: (id: string) => boolean,
): boolean {
  return owners.every((id) => id === selfId || lacking(id));
}
