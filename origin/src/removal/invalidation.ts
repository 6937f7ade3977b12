import { backoffMs } from '@sepia/base/async/backoff';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { delay, pause } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { ORIGIN_NAMES } from '@sepia/cluster/api/origin';
import { PROXY } from '@sepia/cluster/api/proxy';
import { MAX_REVOCATIONS, type Revocation } from '@sepia/cluster/api/revocation';
import { to } from '@sepia/cluster/api/route';
import { TRACKER } from '@sepia/cluster/api/tracker';
import type { Cluster } from '@sepia/cluster/cluster';
import type { Member } from '@sepia/cluster/document';
import type { InternalClient } from '@sepia/http/client';
import { MAX_REVOKE_RETRY_MS, REVOKE_GIVE_UP_MS, REVOKE_MS, REVOKE_RETRY_MS } from '../deadlines/members.ts';

const REVOCATIONS = {
  origin: ORIGIN_NAMES.revocations,
  proxy: PROXY.revocations,
  tracker: TRACKER.revocations,
} as const;

/** Messages that wait for silent members; beyond these the belief in links bounds what they still serve. */
const MAX_WAITING = 1_000;

interface InvalidationDeps {
  readonly cluster: Cluster;
  readonly client: InternalClient;
  readonly selfId: string;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/**
 * Tells all that may remember a link that it is gone: parts of this origin, the other origins, proxies, and trackers
 * (which pass it on to agents with their leases). Call it once the records say so durably.
 */
export class Invalidation {
  readonly #deps: InvalidationDeps;
  readonly #listeners = new Set<(revoked: readonly Revocation[]) => void>();
  readonly #stopped = new AbortController();
  #waiting = 0;

  constructor(deps: InvalidationDeps) {
    this.#deps = deps;
  }

  /** Calls `listener` with what is revoked, by this origin or another. */
  onRevoked(listener: (revoked: readonly Revocation[]) => void): void {
    this.#listeners.add(listener);
  }

  /** Takes a revocation of another origin. */
  take(revoked: readonly Revocation[]): void {
    for (const listener of this.#listeners) listener(revoked);
  }

  /**
   * Forgets here at once and tells the others; resolves when all were told or {@link REVOKE_MS} is over, never
   * rejects. Silent members are told behind, for a quarter of an hour.
   */
  async broadcast(revoked: readonly Revocation[]): Promise<void> {
    if (revoked.length === 0) return;
    this.take(revoked);
    const { cluster, selfId } = this.#deps;
    const members = [
      ...cluster.members('origin').filter(({ id }) => id !== selfId),
      ...cluster.members('proxy'),
      ...cluster.members('tracker'),
    ];
    const told = members.flatMap((member) => parts(revoked).map((part) => this.#tell(member, part)));
    const late = new AbortController();
    await Promise.race([
      Promise.all(told),
      pause(REVOKE_MS, AbortSignal.any([late.signal, this.#stopped.signal])),
    ]);
    late.abort(new CodedError('TIMEOUT', { message: 'all were told' }));
  }

  stop(): void {
    this.#stopped.abort(new CodedError('DRAINING'));
  }

  /** Resolves after the first try; the others go on behind. */
  async #tell(member: Member, revoked: readonly Revocation[]): Promise<void> {
    try {
      await this.#send(member, revoked);
    } catch (error) {
      throwIfBug(error);
      this.#deps.log.debug(
        { member: member.id, reason: String(error) },
        'revocation not taken; trying again',
      );
      if (this.#waiting >= MAX_WAITING) return;
      this.#waiting += 1;
      void this.#again(member, revoked).finally(() => {
        this.#waiting -= 1;
      });
    }
  }

  async #again(member: Member, revoked: readonly Revocation[]): Promise<void> {
    const untilMs = this.#deps.nowMs() + REVOKE_GIVE_UP_MS;
    for (let tries = 1; this.#deps.nowMs() < untilMs; tries += 1) {
      try {
        await delay(backoffMs(tries, REVOKE_RETRY_MS, MAX_REVOKE_RETRY_MS), this.#stopped.signal);
        return await this.#send(member, revoked);
      } catch (error) {
        throwIfBug(error);
        if (this.#stopped.signal.aborted) return;
      }
    }
    this.#deps.log.warn({ member: member.id, revoked: revoked.length }, 'revocation was never taken');
  }

  async #send(member: Member, revoked: readonly Revocation[]): Promise<void> {
    await this.#deps.client.json({
      url: member.urls[0]!,
      to: member.id,
      ...to(REVOCATIONS[member.role]),
      json: { revoked },
      headersTimeoutMs: REVOKE_MS * 2,
      bodyTimeoutMs: REVOKE_MS * 2,
      signal: AbortSignal.any([this.#stopped.signal, AbortSignal.timeout(REVOKE_MS * 2)]),
    });
  }
}

function parts(revoked: readonly Revocation[]): Revocation[][] {
  const made: Revocation[][] = [];
  for (let at = 0; at < revoked.length; at += MAX_REVOCATIONS)
    made.push(revoked.slice(at, at + MAX_REVOCATIONS));
  return made;
}
