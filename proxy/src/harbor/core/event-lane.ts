import { backoffMs } from '@sepia/base/async/backoff';
import { CodedError } from '@sepia/base/errors';
import { hasNoPlace } from '@sepia/records/jobs/core/fair-share';
import {
  CLOCKS_APART_MS,
  EVENT_GIVE_UP_MS,
  EVENT_RETRY_MS,
  EVENT_TAKEN_MS,
  MAX_EVENT_RETRY_MS,
} from '../../deadlines.ts';

/** Events that one lane holds; more are refused, and Harbor sends them again. */
export const MAX_EVENTS = 256;
/** Events that ended, by key: a repeated delivery is known. */
const MAX_DONE = 512;

/** What a lane remembers of an event; `payload` is the caller's. */
export interface LaneEvent<T> {
  readonly key: string;
  readonly payload: T;
  readonly addedAtMs: number;
  readonly notBeforeMs: number;
  readonly tries: number;
  readonly takenBy?: string;
  readonly takenUntilMs?: number;
}

/** Events that wait or are being worked on, and keys of those that ended. The value of one register. */
export interface Lane<T> {
  readonly events: readonly LaneEvent<T>[];
  readonly done: readonly string[];
}

const EMPTY: Lane<never> = { events: [], done: [] };

/**
 * Takes an event in, held by `holder` from the start; of one owner as many as {@link hasNoPlace} allows. `isNew` is false for
 * one that is known. @throws `OVERLOADED`
 */
export function addEvent<T>(
  lane: Lane<T> = EMPTY,
  event: { readonly key: string; readonly payload: T },
  holder: string,
  nowMs: number,
  ownerOf?: (payload: T) => string,
): { lane: Lane<T>; isNew: boolean } {
  if (lane.done.includes(event.key) || lane.events.some(({ key }) => key === event.key))
    return { lane, isNew: false };
  const owner = ownerOf?.(event.payload);
  const owners = lane.events.map(({ payload }) => ownerOf?.(payload));
  const isFull = lane.events.length >= MAX_EVENTS;
  if (isFull || hasNoPlace(MAX_EVENTS, owners, owner)) {
    const whose = isFull ? '' : ` of ${owner}`;
    throw new CodedError('OVERLOADED', { message: `too many events${whose} wait; send it again later` });
  }
  const added: LaneEvent<T> = {
    ...event,
    addedAtMs: nowMs,
    notBeforeMs: nowMs,
    tries: 0,
    takenBy: holder,
    takenUntilMs: nowMs + EVENT_TAKEN_MS,
  };
  return { lane: { ...lane, events: [...lane.events, added] }, isNew: true };
}

/**
 * Events that nobody works on and whose time has come, at most `limit`, now held by `holder`: first those of whom the fewest
 * are worked on, of these the one that waited longest.
 */
export function takeDue<T>(
  lane: Lane<T> = EMPTY,
  holder: string,
  nowMs: number,
  limit: number,
  ownerOf?: (payload: T) => string,
): { lane: Lane<T>; taken: LaneEvent<T>[] } {
  const due = new Set(lane.events.filter((event) => isDue(event, nowMs)));
  const inWork = new Map<string | undefined, number>();
  const owner = ({ payload }: LaneEvent<T>): string | undefined => ownerOf?.(payload);
  const begin = (event: LaneEvent<T>): void =>
    void inWork.set(owner(event), (inWork.get(owner(event)) ?? 0) + 1);
  for (const event of lane.events) if (isAhead(event.takenUntilMs, nowMs, EVENT_TAKEN_MS)) begin(event);
  const chosen = new Set<LaneEvent<T>>();
  while (chosen.size < limit && due.size > 0) {
    const rank = (event: LaneEvent<T>): number => inWork.get(owner(event)) ?? 0;
    const next = [...due].reduce((best, one) =>
      (rank(one) - rank(best) || one.notBeforeMs - best.notBeforeMs) < 0 ? one : best,
    );
    due.delete(next);
    chosen.add(next);
    begin(next);
  }
  if (chosen.size === 0) return { lane, taken: [] };
  const held = (event: LaneEvent<T>): LaneEvent<T> => ({
    ...event,
    takenBy: holder,
    takenUntilMs: nowMs + EVENT_TAKEN_MS,
  });
  const events = lane.events.map((event) => (chosen.has(event) ? held(event) : event));
  return { lane: { ...lane, events }, taken: [...chosen].map(held) };
}

/** Whether an event waits that may be taken now. */
export function hasDue<T>(lane: Lane<T> | undefined, nowMs: number): boolean {
  return lane?.events.some((event) => isDue(event, nowMs)) ?? false;
}

/** Goes on holding an event; false if another has it now. */
export function renew<T>(
  lane: Lane<T> = EMPTY,
  key: string,
  holder: string,
  nowMs: number,
): { lane: Lane<T>; isHeld: boolean } {
  const isHeld = lane.events.some((event) => event.key === key && event.takenBy === holder);
  const events = lane.events.map((event) =>
    event.key === key && isHeld ? { ...event, takenUntilMs: nowMs + EVENT_TAKEN_MS } : event,
  );
  return { lane: isHeld ? { ...lane, events } : lane, isHeld };
}

/** Notes an event as done, by whichever proxy. */
export function finish<T>(lane: Lane<T> = EMPTY, key: string): Lane<T> {
  return {
    events: lane.events.filter((event) => event.key !== key),
    done: [...lane.done.filter((one) => one !== key), key].slice(-MAX_DONE),
  };
}

/** The event is tried again later, ever more rarely, for a day. `isOver`: it is given up. */
export function putBack<T>(
  lane: Lane<T> = EMPTY,
  key: string,
  holder: string,
  nowMs: number,
): { lane: Lane<T>; isOver: boolean } {
  const event = lane.events.find((one) => one.key === key);
  if (event === undefined || event.takenBy !== holder) return { lane, isOver: false };
  if (nowMs - event.addedAtMs > EVENT_GIVE_UP_MS) return { lane: finish(lane, key), isOver: true };
  const { takenBy: _by, takenUntilMs: _until, ...rest } = event;
  const waitMs = backoffMs(event.tries + 1, EVENT_RETRY_MS, MAX_EVENT_RETRY_MS);
  const waiting: LaneEvent<T> = { ...rest, tries: event.tries + 1, notBeforeMs: nowMs + waitMs };
  return {
    lane: { ...lane, events: lane.events.map((one) => (one.key === key ? waiting : one)) },
    isOver: false,
  };
}

function isDue<T>(event: LaneEvent<T>, nowMs: number): boolean {
  const isWaiting = isAhead(event.notBeforeMs, nowMs, MAX_EVENT_RETRY_MS);
  return !isWaiting && !isAhead(event.takenUntilMs, nowMs, EVENT_TAKEN_MS);
}

/** True of a time to come that was set at most `mostMs` ahead; one that is further was set under a clock that was wrong. */
function isAhead(atMs: number | undefined, nowMs: number, mostMs: number): boolean {
  return atMs !== undefined && atMs > nowMs && atMs - nowMs <= mostMs + CLOCKS_APART_MS;
}
