import type { Entry, Join } from './join.ts';
import { taken } from './set-protocol.ts';

/*
 * How tombstones go. A shard has a floor at each owner: a clock at which all of its owners once had the same entries. An
 * entry that is older and not there was deleted, so its tombstone need not be kept. ADR 0072.
 */

/** What an owner durably knows of a shard beside its entries. Both only grow; `agreedMs` is never above `promisedMs`. */
export interface Floor {
  /** Writes of this clock or an older one that say something new are refused: the writer takes a later clock. */
  readonly promisedMs: number;
  /** Up to this clock all owners had the same entries. */
  readonly agreedMs: number;
}

/** An entry as an owner has it, and that owner's agreed floor; undefined where it has none. */
export interface Told {
  readonly entry: Entry | undefined;
  readonly agreedMs: number;
}

/** Writers' clocks are whole: nothing but a tombstone of a garbage collection is between a floor and the next of them. */
const ABOVE_MS = 0.5;

/** The floor where nothing was agreed yet: no tombstone goes. */
export const NO_FLOOR: Floor = { promisedMs: 0, agreedMs: 0 };

/** A message that is no owner's word: what is not there and not above the floor was deleted. */
export const NOBODY_MS = Number.NEGATIVE_INFINITY;

/** Whoever knows one of them knows both. */
export function higherFloor(a: Floor, b: Floor): Floor {
  const agreedMs = Math.max(a.agreedMs, b.agreedMs);
  return { promisedMs: Math.max(a.promisedMs, b.promisedMs, agreedMs), agreedMs };
}

/**
 * What an owner has once it took `theirs` over; undefined if that says nothing new. What it has not, and the floor says
 * was deleted, stays away, unless the other has it under a floor that is as high: then it was lost here.
 */
export function takenAbove(
  own: Told,
  theirs: { readonly entry: Entry; readonly agreedMs: number },
  join: Join,
): Entry | undefined {
  if (own.entry !== undefined || own.agreedMs === 0 || own.agreedMs <= theirs.agreedMs)
    return taken(own.entry, theirs.entry, join);
  const joined = join({ atMs: own.agreedMs }, theirs.entry);
  return joined.value === undefined && joined.atMs <= own.agreedMs ? undefined : joined;
}

/** True if an owner drops what it has since `theirs`, of a higher floor, does not have it: it was deleted meanwhile. */
export function isGoneBy(own: Told, theirs: Told): boolean {
  return (
    own.entry !== undefined &&
    theirs.entry === undefined &&
    theirs.agreedMs > own.agreedMs &&
    own.entry.atMs <= theirs.agreedMs
  );
}

/** The entry that stands, by the answers of enough owners; undefined if none of them has it, or it was deleted. */
export function standingAbove(told: readonly Told[], join: Join): Entry | undefined {
  let standing: Entry | undefined;
  for (const one of told) {
    if (one.entry === undefined || told.some((other) => isGoneBy(one, other))) continue;
    standing = standing === undefined ? one.entry : join(standing, one.entry);
  }
  return standing;
}

/**
 * Clock that a write must exceed; undefined if it may be taken. `own` and `next`: what the owner has, and has once it takes
 * it. Of what is not there a write below the floor is hidden: nothing of it is news, and yet it does not stand.
 */
export function behindFloor(
  floor: Floor,
  own: Entry | undefined,
  write: Entry,
  next: Entry | undefined,
): number | undefined {
  if (own === undefined && write.atMs <= floor.agreedMs) return floor.agreedMs;
  return next !== undefined && write.atMs <= floor.promisedMs ? floor.promisedMs : undefined;
}

/** True for an entry that may be taken off the disk and leave nothing. */
export function mayGo(entry: Entry, floor: Floor): boolean {
  return entry.value === undefined && entry.atMs <= floor.agreedMs;
}

/**
 * Clock of the tombstone that a garbage collection leaves for what it saw at the clock `atMs`; undefined if it must wait,
 * or `own` is later. At the record's own clock, so that a later write wins. Below an agreed floor that would change what
 * all agreed on: there it is the first clock above it, for all owners have that record, and none between it and the floor.
 */
export function buriedAt(
  { promisedMs, agreedMs }: Floor,
  own: Entry | undefined,
  atMs: number,
): number | undefined {
  if (own !== undefined && own.atMs > atMs) return undefined;
  if (atMs > promisedMs) return atMs;
  return own !== undefined && atMs <= agreedMs && promisedMs === agreedMs ? agreedMs + ABOVE_MS : undefined;
}
