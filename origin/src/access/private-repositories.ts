import { ExpiringMap } from '@sepia/base/expiring-map';
import type { AccessChallenge } from '@sepia/cluster/api/access';
import { PRIVATE_MS } from '../deadlines/upstreams.ts';

const MAX_ENTRIES = 20_000;

/** The upstream's answer to a request without credentials: its challenge, or a denial. */
export type SaidToNobody = AccessChallenge | { readonly denied: string };

/** Repositories, by key, that an upstream refused to requests without credentials a moment ago. */
export class PrivateRepositories {
  readonly #nowMs: () => number;
  readonly #refused = new ExpiringMap<SaidToNobody>(MAX_ENTRIES);

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  has(key: string): boolean {
    return this.get(key) !== undefined;
  }

  get(key: string): SaidToNobody | undefined {
    return this.#refused.get(key, this.#nowMs());
  }

  note(key: string, said: SaidToNobody): void {
    this.#refused.set(key, said, this.#nowMs() + PRIVATE_MS);
  }

  forget(key: string): void {
    this.#refused.delete(key);
  }
}
