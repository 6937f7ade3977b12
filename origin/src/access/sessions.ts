import { expiryMs, hashOf, parseBasic, parseBearer } from '@sepia/face/access/authorization';
import type { Authorizer } from '@sepia/upstream/authenticator';
import { GivenToken } from '@sepia/upstream/authenticator';
import type { UpstreamClient } from '@sepia/upstream/upstream-client';
import { SESSION_MS } from '../deadlines/upstreams.ts';

const MAX_SESSIONS = 2_000;

/** Somebody whom the upstream accepted for a repository. The secrets are in memory only. */
interface Session {
  readonly authorization: string;
  readonly as: Authorizer;
  readonly untilMs: number;
}

/** Credentials of clients, by repository: to check with, and to fetch with where the upstream's policy allows it. */
export class Sessions {
  readonly #nowMs: () => number;
  readonly #dateMs: () => number;
  /** Keys `upstream\nrepository\nhash`, the newest last. */
  readonly #sessions = new Map<string, Session>();

  constructor(deps: { readonly nowMs: () => number; readonly dateMs: () => number }) {
    this.#nowMs = deps.nowMs;
    this.#dateMs = deps.dateMs;
  }

  /** Whoever these credentials are of, to ask the upstream with; undefined for an unknown scheme. */
  authorizer(client: UpstreamClient, repositoryKey: string, authorization: string): Authorizer | undefined {
    const known = this.#sessions.get(`${repositoryKey}\n${hashOf(authorization)}`);
    if (known !== undefined) return known.as;
    const basic = parseBasic(authorization);
    if (basic !== undefined) return client.authorizer(basic);
    const token = parseBearer(authorization);
    return token === undefined ? undefined : new GivenToken(token);
  }

  /** The upstream accepted them for this repository. */
  keep(repositoryKey: string, authorization: string, as: Authorizer): void {
    const nowMs = this.#nowMs();
    const key = `${repositoryKey}\n${hashOf(authorization)}`;
    const untilMs =
      nowMs + Math.min(SESSION_MS, (expiryMs(authorization) ?? Number.MAX_SAFE_INTEGER) - this.#dateMs());
    this.#sessions.delete(key);
    if (untilMs <= nowMs) return;
    this.#sessions.set(key, { authorization, as, untilMs });
    for (const [oldest, { untilMs: endMs }] of this.#sessions) {
      if (this.#sessions.size <= MAX_SESSIONS && endMs > nowMs) break;
      this.#sessions.delete(oldest);
    }
  }

  /** Forgets credentials that the upstream refused. */
  drop(repositoryKey: string, authorization: string): void {
    this.#sessions.delete(`${repositoryKey}\n${hashOf(authorization)}`);
  }

  /** Those accepted for a repository, the newest first. */
  of(repositoryKey: string): Session[] {
    const nowMs = this.#nowMs();
    return [...this.#sessions]
      .filter(([key, session]) => key.startsWith(`${repositoryKey}\n`) && session.untilMs > nowMs)
      .map(([, session]) => session)
      .reverse();
  }
}
