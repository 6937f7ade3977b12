import { backoffMs } from '@sepia/base/async/backoff';
import { ExpiringMap } from '@sepia/base/expiring-map';
import { LatestMap } from '@sepia/base/latest-map';
import { hostOf } from '@sepia/base/names/host-of';
import {
  ACCOUNT_PAUSE_MS,
  FIRST_LOGIN_PAUSE_MS,
  LOGIN_FORGET_MS,
  LOGIN_KNOWN_MS,
  LOGIN_PAUSE_MS,
} from '../deadlines.ts';

/** Failures that cost nothing, and the longest pause after more, by what they are counted for. */
const LIMITS = {
  /** One account from one address. */
  pair: { free: 3, maxMs: LOGIN_PAUSE_MS },
  /** One address, whatever the account. */
  address: { free: 20, maxMs: LOGIN_PAUSE_MS },
  /** One account, from wherever: slowed, never locked, or anybody could lock out anybody. */
  account: { free: 50, maxMs: ACCOUNT_PAUSE_MS },
} as const;
const MAX_KEYS = 30_000;

interface Failures {
  count: number;
  lastMs: number;
  untilMs: number;
}

/**
 * Slows down whoever guesses passwords: after some failures each further one doubles the pause until the next try.
 * Bounded: the keys that failed longest ago are forgotten first. Pure: time is passed in.
 */
export class LoginLimits {
  readonly #failures = new LatestMap<string, Failures>(MAX_KEYS);
  /** Accounts that logged in well from an address lately: only what fails from there counts against them. */
  readonly #known = new ExpiringMap<true>(MAX_KEYS);

  get keys(): number {
    return this.#failures.size;
  }

  /** How long to wait before this login may be tried, in ms; 0: now. */
  waitMs(account: string, address: string, nowMs: number): number {
    const keys = keysOf(account, address);
    const isKnown = this.#known.get(keys[0]![0], nowMs) !== undefined;
    const untilMs = keys.slice(0, isKnown ? 1 : 3).map(([key]) => this.#failures.get(key)?.untilMs ?? 0);
    return Math.max(0, Math.max(...untilMs) - nowMs);
  }

  failed(account: string, address: string, nowMs: number): void {
    for (const [key, kind] of keysOf(account, address)) {
      const before = this.#failures.get(key);
      const isFresh = before !== undefined && nowMs - before.lastMs < LOGIN_FORGET_MS;
      const count = (isFresh ? before.count : 0) + 1;
      const { free, maxMs } = LIMITS[kind];
      const pauseMs = backoffMs(count - free + 1, FIRST_LOGIN_PAUSE_MS, maxMs);
      this.#failures.set(key, { count, lastMs: nowMs, untilMs: nowMs + pauseMs });
    }
  }

  /** A right password clears what this account did wrong from this address. */
  succeeded(account: string, address: string, nowMs: number): void {
    const [pair] = keysOf(account, address)[0]!;
    this.#failures.delete(pair);
    this.#known.set(pair, true, nowMs + LOGIN_KNOWN_MS);
  }
}

/** An IPv6 host has as many addresses as it likes: they count as one. */
function keysOf(account: string, address: string): [string, keyof typeof LIMITS][] {
  const host = hostOf(address);
  return [
    [`pair\n${account}\n${host}`, 'pair'],
    [`address\n${host}`, 'address'],
    [`account\n${account}`, 'account'],
  ];
}
