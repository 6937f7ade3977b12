import { type CodedError, isCoded, isUpstreamFailure } from '@sepia/base/errors';
import type { Cluster } from '@sepia/cluster/cluster';

/** A member that failed to answer is tried last for this long, in ms. */
const SUSPECT_MS = 5_000;

/** A member to call. */
export interface Target {
  readonly id: string;
  readonly url: string;
}

/** Which members failed lately: orders the tries, never decides who owns what. */
export class MemberHealth {
  readonly #suspectUntilMs = new Map<string, number>();
  readonly #nowMs: () => number;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** Healthy members first, the order kept otherwise. */
  order(targets: readonly Target[]): Target[] {
    const nowMs = this.#nowMs();
    const suspect = (target: Target): boolean => (this.#suspectUntilMs.get(target.id) ?? 0) > nowMs;
    return [...targets.filter((one) => !suspect(one)), ...targets.filter(suspect)];
  }

  /** Runs a call and notes whether the member answered. An answer that is an error is an answer. */
  async watch<T>(target: Target, silentAfterMs: number, call: () => Promise<T>): Promise<T> {
    const late = setTimeout(() => this.#suspect(target), silentAfterMs);
    try {
      const value = await call();
      this.#suspectUntilMs.delete(target.id);
      return value;
    } catch (error) {
      if (isSilence(error)) this.#suspect(target);
      throw error;
    } finally {
      clearTimeout(late);
    }
  }

  #suspect(target: Target): void {
    this.#suspectUntilMs.set(target.id, this.#nowMs() + SUSPECT_MS);
  }
}

/** True when a member gave no answer at all, or refuses our signature: it is no use to us, as dead as the other. */
export function isSilence(error: unknown): boolean {
  if (isCoded(error, 'SIGNATURE_INVALID')) return true;
  return isCoded(error, 'PEER_HTTP') && (error as CodedError).detail['status'] === undefined;
}

/** True for an answer that no other member would better. */
export function isCertain(error: unknown): boolean {
  return (
    isCoded(error) &&
    !error.facts.retryable &&
    error.code !== 'INTERNAL' &&
    error.code !== 'SIGNATURE_INVALID'
  );
}

/** True for an answer that ends the search: certain, or the upstream's failure as the fetching origin tells it. */
export function isDecisive(error: unknown): boolean {
  return isCertain(error) || isUpstreamFailure(error);
}

export function targetsOf(cluster: Cluster, ids: readonly string[]): Target[] {
  return ids.map((id) => ({ id, url: cluster.member(id).urls[0]! }));
}
