import { SingleFlight } from '@sepia/base/async/single-flight';
import { CodedError, type ErrorCode, isCoded } from '@sepia/base/errors';
import { LatestMap } from '@sepia/base/latest-map';
import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { linkKey } from '@sepia/base/names/blob-name';
import { H_HOP, H_UPSTREAM_AUTHORIZATION } from '@sepia/cluster/api/headers';
import { ORIGIN_NAMES } from '@sepia/cluster/api/origin';
import { headTo } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import { hashOf } from '@sepia/face/access/authorization';
import type { Members } from '../cluster/members.ts';
import type { Others } from '../cluster/others.ts';
import { RECHECK_LEADER_MS, RECHECK_MS } from '../deadlines/upstreams.ts';
import { isPassing, upstreamError } from '../upstream/upstream-failure.ts';
import type { Upstreams } from '../upstream/upstreams.ts';

/** Checks remembered; the oldest go first. */
const MAX_CHECKED = 50_000;
/** A registry that says so does not let the manifest be served. */
const REFUSALS: ReadonlySet<ErrorCode> = new Set([
  'MANIFEST_UNKNOWN',
  'REPOSITORY_UNKNOWN',
  'UPSTREAM_DENIED',
  'UPSTREAM_POLICY',
]);

interface RecheckDeps {
  readonly members: Members;
  readonly upstreams: Upstreams;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/**
 * Asks the upstream whether a manifest that is cached here may still be served (`manifest-recheck`): a registry
 * with policy gates refuses manifests, never blobs, and a cache would pass them by.
 */
export class Recheck {
  readonly #deps: RecheckDeps;
  readonly #checkedAtMs = new LatestMap<string, number>(MAX_CHECKED);
  readonly #flights = new SingleFlight<string, void>();

  constructor(deps: RecheckDeps) {
    this.#deps = deps;
  }

  /** The upstream has just sent or confirmed it. */
  confirmed(name: BlobName): void {
    if (this.#mode(name) === 'never') return;
    const key = linkKey(name);
    this.#checkedAtMs.set(key, this.#deps.nowMs());
  }

  /**
   * Resolves when the manifest may be served. One origin asks for all: the first healthy owner of the repository. While
   * the upstream does not answer, what it confirmed within the stale limit, and did not refuse since, is served.
   * @throws `UPSTREAM_POLICY`, `UPSTREAM_DENIED`, `MANIFEST_UNKNOWN` and what else it answers
   */
  async check(
    name: BlobName,
    others: Others,
    wish: { readonly authorization?: string | undefined; readonly signal?: AbortSignal | undefined },
  ): Promise<void> {
    const mode = this.#mode(name);
    if (mode === 'never') return;
    const { members, upstreams, nowMs } = this.#deps;
    const { ttl } = upstreams.get(name.upstream).tags;
    const checkedAtMs = this.#checkedAtMs.get(linkKey(name));
    if (mode === 'ttl' && checkedAtMs !== undefined && nowMs() - checkedAtMs < ttl) return;
    const leader = members.leaderOf(shardKey(name.upstream, name.repository));
    if (others === 'ask' && leader !== members.selfId && (await this.#forward(leader, name, wish))) return;
    const ask = async (unwanted: AbortSignal): Promise<void> =>
      await this.#ask(name, wish.authorization, unwanted);
    // What one login is refused is no answer for another.
    const key = `${linkKey(name)}\n${whoseLogin(wish.authorization)}`;
    await this.#flights.share(key, ask, wish.signal);
  }

  async #ask(name: BlobName, authorization: string | undefined, unwanted: AbortSignal): Promise<void> {
    const { upstreams, nowMs, log } = this.#deps;
    const client = upstreams.client(name.upstream, authorization);
    const reference = { kind: 'digest', digest: name.digest } as const;
    try {
      const query = { repository: name.repository, reference, unwanted };
      await client?.headManifest(query, AbortSignal.timeout(RECHECK_MS));
      this.confirmed(name);
    } catch (thrown) {
      if (thrown === unwanted.reason) throw thrown;
      const error = upstreamError(thrown, name.upstream);
      this.#refused(name, authorization, error);
      const staleLimitMs = upstreams.get(name.upstream).tags['stale-limit'];
      const checkedAtMs = this.#checkedAtMs.get(linkKey(name)) ?? Number.NEGATIVE_INFINITY;
      if (!isPassing(error) || nowMs() - checkedAtMs > staleLimitMs) throw error;
      log.warn(
        { digest: name.digest, upstream: name.upstream, reason: error.message },
        'manifest served without a new check: the upstream does not answer',
      );
    }
  }

  /** True when the leader answered; what it refuses with is thrown. */
  async #forward(
    leader: string,
    name: BlobName,
    { authorization, signal: gone }: Parameters<Recheck['check']>[2],
  ): Promise<boolean> {
    const { upstream, repository, digest } = name;
    const asked = headTo(ORIGIN_NAMES.manifest, { upstream, repository, reference: digest });
    const headers = { [H_HOP]: '1', ...broughtHeader(authorization) };
    const { members } = this.#deps;
    const ask = async (signal: AbortSignal): Promise<void> => {
      const call = { ...asked, headers, headersTimeoutMs: RECHECK_LEADER_MS, signal } as const;
      const answer = await members.raw(leader, call);
      await answer.body.dump();
      if (answer.status < 400) return;
      // HEAD brings no text: ask once more for what the client is to read.
      await members.bytes(leader, { ...call, method: 'GET' });
    };
    try {
      await members.attended(leader, ask, gone);
      this.confirmed(name);
      return true;
    } catch (error) {
      gone?.throwIfAborted();
      if (isCoded(error, 'PEER_HTTP') || isCoded(error, 'DRAINING') || isCoded(error, 'INTERNAL'))
        return false;
      const told = error instanceof CodedError ? error : upstreamError(error, name.upstream);
      this.#refused(name, authorization, told);
      throw told;
    }
  }

  /** What it confirmed before counts no more, whoever does not answer later; a no to somebody's login is none to others. */
  #refused(name: BlobName, authorization: string | undefined, error: CodedError): void {
    if (authorization === undefined && REFUSALS.has(error.code)) this.#checkedAtMs.delete(linkKey(name));
  }

  #mode(name: BlobName): 'never' | 'ttl' | 'always' {
    const { mode, 'manifest-recheck': recheck } = this.#deps.upstreams.get(name.upstream);
    return mode === 'none' ? 'never' : recheck;
  }
}

/** By whose login a registry is asked, as part of a key: nothing for the cluster's own. */
export function whoseLogin(authorization: string | undefined): string {
  return authorization === undefined ? '' : hashOf(authorization);
}

/** The header by which a brought `Authorization` travels between members. */
export function broughtHeader(authorization: string | undefined): Record<string, string> {
  return authorization === undefined ? {} : { [H_UPSTREAM_AUTHORIZATION]: authorization };
}
