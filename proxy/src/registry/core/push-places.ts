import { WINDOW_MS } from '../../deadlines.ts';

/** Who pushes: the account, where there are accounts, and the address that it comes from. */
export interface Pusher {
  readonly account?: string | undefined;
  readonly address: string;
}

/** Requests with a body at once. */
export interface PlaceLimits {
  readonly all: number;
  readonly perAccount: number;
  readonly perAddress: number;
  /** Bytes of bodies that are held in memory, in all; one pusher gets a quarter of it. */
  readonly heldBytes: number;
}

/** A request with a body that is under way. */
export interface Place {
  readonly pusher: Pusher;
  readonly sinceMs: number;
}

/** What becomes of a request with a body. */
export type Entry =
  | { readonly type: 'go'; readonly place: Place; readonly instead: readonly Place[] }
  | { readonly type: 'refuse'; readonly limit: 'account' | 'address' | 'all' };

/** A body of which less comes in a window is slow: 16 KiB a second. */
export const SLOW_BYTES = 160 * 1024;
const PUSHER_SHARE = 4;

interface Figures {
  windowMs: number;
  windowBytes: number;
  isSlow: boolean;
  heldBytes: number;
}

/**
 * Places for requests with a body. The limits of one account and of one address come before that of all, so that
 * nobody takes every place. Where a limit is reached the longest slow body gives up its place, so that bodies which are
 * sent a byte at a time stop no push, whoever sends them; where none is slow the new one is refused.
 */
export class PushPlaces {
  #limits: PlaceLimits;
  readonly #places = new Map<Place, Figures>();

  constructor(limits: PlaceLimits) {
    this.#limits = { ...limits };
  }

  get open(): number {
    return this.#places.size;
  }

  /** New limits, for what comes from now on. */
  adjust(limits: PlaceLimits): void {
    this.#limits = { ...limits };
  }

  /** Bytes held in memory. */
  get heldBytes(): number {
    return sum([...this.#places.values()].map(({ heldBytes }) => heldBytes));
  }

  /** The caller ends what is `instead`; their places are free already. */
  enter(pusher: Pusher, nowMs: number): Entry {
    const { all, perAccount, perAddress } = this.#limits;
    const instead: Place[] = [];
    const limits = [
      ['account', perAccount, (one: Pusher) => one.account !== undefined && one.account === pusher.account],
      ['address', perAddress, (one: Pusher) => one.address === pusher.address],
      ['all', all, () => true],
    ] as const;
    for (const [limit, most, counts] of limits) {
      const same = [...this.#places.keys()].filter((one) => counts(one.pusher) && !instead.includes(one));
      if (same.length < most) continue;
      const slow = same.find((one) => this.#places.get(one)!.isSlow);
      if (slow === undefined) return { type: 'refuse', limit };
      instead.push(slow);
    }
    for (const one of instead) this.#places.delete(one);
    const place = { pusher, sinceMs: nowMs };
    this.#places.set(place, { windowMs: nowMs, windowBytes: 0, isSlow: false, heldBytes: 0 });
    return { type: 'go', place, instead };
  }

  leave(place: Place): void {
    this.#places.delete(place);
  }

  /** Notes how much of a body came so far; `waits`: the next move is its client's. */
  moved(place: Place, bytes: number, waits: boolean, nowMs: number): void {
    const figures = this.#places.get(place);
    if (figures === undefined) return;
    if (waits && nowMs - figures.windowMs < WINDOW_MS) return;
    figures.isSlow = waits && bytes - figures.windowBytes < SLOW_BYTES;
    figures.windowMs = nowMs;
    figures.windowBytes = bytes;
  }

  /** Holds so many bytes in memory for a place; false where that is too much for its pusher, or in all. */
  hold(place: Place, bytes: number): boolean {
    const figures = this.#places.get(place);
    if (figures === undefined) return false;
    const more = bytes - figures.heldBytes;
    const own = [...this.#places]
      .filter(([one]) => keyOf(one.pusher) === keyOf(place.pusher))
      .map(([, { heldBytes }]) => heldBytes);
    if (sum(own) + more > this.#limits.heldBytes / PUSHER_SHARE) return false;
    if (this.heldBytes + more > this.#limits.heldBytes) return false;
    figures.heldBytes = bytes;
    return true;
  }
}

/** Name of a pusher for limits at other members: accounts and addresses never meet. */
export function keyOf({ account, address }: Pusher): string {
  return account === undefined ? `address ${address}` : `account ${account}`;
}

function sum(list: readonly number[]): number {
  return list.reduce((total, one) => total + one, 0);
}
