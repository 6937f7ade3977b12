import { SingleFlight } from '@sepia/base/async/single-flight';
import { CodedError, type ErrorCode, isCoded } from '@sepia/base/errors';
import { LatestMap } from '@sepia/base/latest-map';
import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { linkKey } from '@sepia/base/names/blob-name';
import { H_HOP, H_STALE, H_UPSTREAM_AUTHORIZATION } from '@sepia/cluster/api/headers';
import { ORIGIN_NAMES } from '@sepia/cluster/api/origin';
import { headTo } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import { hashOf } from '@sepia/face/access/authorization';
import { isUnasked } from '@sepia/upstream/failure';
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
  /** Which refusal was its last, of those that were remembered. */
  readonly #refusedAt = new LatestMap<string, number>(MAX_CHECKED);
  #refusals = 0;
  readonly #flights = new SingleFlight<string, number | undefined>();

  constructor(deps: RecheckDeps) {
    this.#deps = deps;
  }

  /** Call it before the upstream is asked: what it confirms counts no more where it refuses that meanwhile. */
  asking(): number {
    return this.#refusals;
  }

  /** The upstream has just sent or confirmed it; `asked`: what {@link asking} said. */
  confirmed(name: BlobName, asked: number): void {
    if (this.#mode(name) === 'never') return;
    const key = linkKey(name);
    if ((this.#refusedAt.get(key) ?? 0) <= asked) this.#checkedAtMs.set(key, this.#deps.nowMs());
  }

  /**
   * Resolves when the manifest may be served. One origin asks for all: the first healthy owner of the repository. While
   * the upstream does not answer, what it confirmed within the stale limit, and did not refuse since, is served.
   * @returns how old the check is that it is served by, in seconds; undefined: it was asked for now
   * @throws `UPSTREAM_POLICY`, `UPSTREAM_DENIED`, `MANIFEST_UNKNOWN` and what else it answers
   */
  async check(
    name: BlobName,
    others: Others,
    wish: { readonly authorization?: string | undefined; readonly signal?: AbortSignal | undefined },
  ): Promise<number | undefined> {
    const mode = this.#mode(name);
    if (mode === 'never') return undefined;
    const { members, upstreams, nowMs } = this.#deps;
    const { ttl } = upstreams.get(name.upstream).tags;
    const checkedAtMs = this.#checkedAtMs.get(linkKey(name));
    if (mode === 'ttl' && checkedAtMs !== undefined && nowMs() - checkedAtMs < ttl)
      return secondsOf(nowMs() - checkedAtMs);
    const leader = members.leaderOf(shardKey(name.upstream, name.repository));
    if (others === 'ask' && leader !== members.selfId && (await this.#forward(leader, name, wish)))
      return undefined;
    const ask = async (unwanted: AbortSignal): Promise<number | undefined> =>
      await this.#ask(name, wish.authorization, unwanted);
    // What one login is refused is no answer for another.
    const key = `${linkKey(name)}\n${whoseLogin(wish.authorization)}`;
    return await this.#flights.share(key, ask, wish.signal);
  }

  async #ask(
    name: BlobName,
    authorization: string | undefined,
    unwanted: AbortSignal,
  ): Promise<number | undefined> {
    const { upstreams, nowMs, log } = this.#deps;
    const asked = this.asking();
    const client = upstreams.client(name.upstream, authorization);
    const reference = { kind: 'digest', digest: name.digest } as const;
    try {
      const query = { repository: name.repository, reference, unwanted };
      await client?.headManifest(query, AbortSignal.timeout(RECHECK_MS));
      this.confirmed(name, asked);
      return undefined;
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
      return secondsOf(nowMs() - checkedAtMs);
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
    const begun = this.asking();
    const ask = async (signal: AbortSignal): Promise<number | undefined> => {
      const call = { ...asked, headers, headersTimeoutMs: RECHECK_LEADER_MS, signal } as const;
      const answer = await members.raw(leader, call);
      await answer.body.dump();
      const stale = Number(answer.headers[H_STALE] ?? Number.NaN);
      if (answer.status < 400) return Number.isNaN(stale) ? undefined : stale;
      // HEAD brings no text: ask once more for what the client is to read.
      await members.bytes(leader, { ...call, method: 'GET' });
      return undefined;
    };
    try {
      const staleSeconds = await members.attended(leader, ask, gone);
      if (staleSeconds === undefined) this.confirmed(name, begun);
      else this.#confirmedBefore(name, staleSeconds, begun);
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

  /** The leader serves it by a check of then, as this origin may where it leads; what it knows itself may be newer. */
  #confirmedBefore(name: BlobName, seconds: number, asked: number): void {
    const key = linkKey(name);
    const atMs = this.#deps.nowMs() - seconds * 1000;
    const isNews = atMs > (this.#checkedAtMs.get(key) ?? Number.NEGATIVE_INFINITY);
    if (isNews && (this.#refusedAt.get(key) ?? 0) <= asked) this.#checkedAtMs.set(key, atMs);
  }

  /**
   * What it confirmed before counts no more, whoever does not answer later; a no to somebody's login is none to others, and where
   * there was nobody to ask it as the registry said nothing.
   */
  #refused(name: BlobName, authorization: string | undefined, error: CodedError): void {
    if (authorization !== undefined || !REFUSALS.has(error.code) || isUnasked(error)) return;
    this.#checkedAtMs.delete(linkKey(name));
    this.#refusals += 1;
    this.#refusedAt.set(linkKey(name), this.#refusals);
  }

  #mode(name: BlobName): 'never' | 'ttl' | 'always' {
    const { mode, 'manifest-recheck': recheck } = this.#deps.upstreams.get(name.upstream);
    return mode === 'none' ? 'never' : recheck;
  }
}

/** No check is told to be newer than it is. */
function secondsOf(ms: number): number {
  return Math.max(0, Math.ceil(ms / 1000));
}

/** By whose login a registry is asked, as part of a key: nothing for the cluster's own. */
export function whoseLogin(authorization: string | undefined): string {
  return authorization === undefined ? '' : hashOf(authorization);
}

/** The header by which a brought `Authorization` travels between members. */
export function broughtHeader(authorization: string | undefined): Record<string, string> {
  return authorization === undefined ? {} : { [H_UPSTREAM_AUTHORIZATION]: authorization };
}
