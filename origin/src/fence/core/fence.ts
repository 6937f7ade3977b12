import { FENCE_MS, REMOVE_MS } from '../../deadlines/members.ts';

/** Most keys that one sweep may condemn at once; a longer list is refused. */
export const MAX_CONDEMNED = 20_000;

/**
 * Stands between a sweep and what clients do at this member meanwhile. A sweep condemns keys (links, bytes by digest) at
 * every member, and hears which of them are in use there; what is used afterwards is either refused or rescued. So a
 * removal never meets somebody who relies on what is removed. Pure: time is passed in, monotonic, in ms.
 *
 *     free ──condemn──▶ condemned ──remove──▶ gone
 *       ▲                 │  │ use: refused, works when repeated
 *       └──release, time──┘  └─ write: rescued, stays
 */
export class Fence {
  readonly #inUse = new Map<string, number>();
  #condemned = new Set<string>();
  /** Was condemned and is no longer, while the sweep goes on: at other members it may be condemned still. */
  #rescued = new Set<string>();
  #generation: string | undefined;
  #sinceMs = 0;

  /** Keys that are condemned now, for metrics. */
  get size(): number {
    return this.#condemned.size;
  }

  /**
   * Condemns keys in place of those before; returns those that are in use, which stay free. False while a sweep of
   * another generation holds the fence, or for too many keys.
   */
  condemn(generation: string, keys: readonly string[], nowMs: number): readonly string[] | false {
    if (this.#holder(nowMs) !== undefined && this.#generation !== generation) return false;
    if (keys.length > MAX_CONDEMNED) return false;
    const busy = keys.filter((key) => this.#inUse.has(key));
    this.#condemned = new Set(keys.filter((key) => !this.#inUse.has(key)));
    this.#rescued = new Set();
    this.#generation = generation;
    this.#sinceMs = nowMs;
    return busy;
  }

  /** Ends a sweep's hold; one of another generation stays. */
  release(generation: string): void {
    if (this.#generation !== generation) return;
    this.#generation = undefined;
    this.#condemned = new Set();
    this.#rescued = new Set();
  }

  isCondemned(key: string, nowMs: number): boolean {
    return this.#condemned.has(key) && this.#holder(nowMs) !== undefined;
  }

  /**
   * Somebody begins to rely on what is there. Returns a key that is condemned, and notes nothing then; else call
   * {@link done} with the same keys once what it does is on record.
   */
  use(keys: readonly string[], nowMs: number): string | undefined {
    const condemned = keys.find((key) => this.isCondemned(key, nowMs));
    if (condemned === undefined)
      for (const key of keys) this.#inUse.set(key, (this.#inUse.get(key) ?? 0) + 1);
    return condemned;
  }

  /** Somebody brings what is named anew: it is no longer condemned. Call {@link done} as after {@link use}. */
  write(keys: readonly string[]): void {
    for (const key of keys) {
      this.rescue(key);
      this.#inUse.set(key, (this.#inUse.get(key) ?? 0) + 1);
    }
  }

  /** What {@link use} or {@link write} noted with these keys is over. */
  done(keys: readonly string[]): void {
    for (const key of keys) {
      const left = this.#inUse.get(key)! - 1;
      if (left > 0) this.#inUse.set(key, left);
      else this.#inUse.delete(key);
    }
  }

  /** Keeps a condemned key: somebody was told that it is here. */
  rescue(key: string): void {
    if (this.#condemned.delete(key)) this.#rescued.add(key);
  }

  /**
   * Somebody begins to look for bytes outside of the members, where the leader of a sweep takes them: as {@link use}, but
   * false also for what was rescued here since. Its copies here count, those there may be on their way out.
   */
  trust(key: string, nowMs: number): boolean {
    if (this.#rescued.has(key) && this.#holder(nowMs) !== undefined) return false;
    return this.use([key], nowMs) === undefined;
  }

  /** Whether the sweep of this generation may remove it at this moment. */
  mayRemove(generation: string, key: string, nowMs: number): boolean {
    return this.#generation === generation && this.#condemned.has(key) && nowMs - this.#sinceMs < REMOVE_MS;
  }

  #holder(nowMs: number): string | undefined {
    return nowMs - this.#sinceMs < FENCE_MS ? this.#generation : undefined;
  }
}
