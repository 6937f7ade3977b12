import { firstAnswer } from '@sepia/base/async/ask-many';
import { isCoded, isUpstreamFailure } from '@sepia/base/errors';
import { ExpiringMap } from '@sepia/base/expiring-map';
import { throwIfBug } from '@sepia/base/failure';
import type { ResolvedName } from '@sepia/base/names/upstream-name';
import type { AccessAnswer, AccessItem, TokenAnswer, TokenRequest } from '@sepia/cluster/api/access';
import { H_UPSTREAM_AUTHORIZATION } from '@sepia/cluster/api/headers';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { PROXY } from '@sepia/cluster/api/proxy';
import { to } from '@sepia/cluster/api/route';
import { type Cluster, shardKey } from '@sepia/cluster/cluster';
import { isDecisive } from '@sepia/cluster/core/answers';
import { AWAKE_MS, FIRST_ANSWER_MS } from '@sepia/cluster/deadlines';
import {
  type BasicCredentials,
  believableUntilMs,
  parseBasic,
  parseBearer,
} from '@sepia/face/access/authorization';
import { accessCall } from '@sepia/face/door/upstream-access';
import { FILLED } from '@sepia/http/app';
import type { InternalClient, InternalRequest } from '@sepia/http/client';
import { type Authorizer, GivenToken } from '@sepia/upstream/authenticator';
import { basic } from '@sepia/upstream/credentials/basic';
import { isOfCredentials, isOfWhoAsks } from '@sepia/upstream/failure';
import { readItem } from '@sepia/upstream/read-item';
import { carriesPassword } from '@sepia/upstream/transport';
import type { UpstreamClient } from '@sepia/upstream/upstream-client';
import { ACCESS_HEDGE_MS, ASK_UPSTREAM_MS, OWN_ACCOUNT_MS, OWN_TTL_MS } from '../deadlines.ts';
import { type BackToSourcePolicy, sourceDelayMs } from '../source/core/back-to-source.ts';
import type { SourceGate } from '../source/source-gate.ts';
import { type CallWatch, originsOf, proxiesOf, type Target } from './members.ts';

const MAX_NAMES = 5_000;

interface AccessClientDeps {
  readonly cluster: Cluster;
  readonly client: InternalClient;
  readonly health: CallWatch;
  readonly gate: SourceGate;
  readonly upstreamClient: (upstream: string) => UpstreamClient;
  readonly nodeId: string;
  readonly nowMs: () => number;
  readonly dateMs: () => number;
}

/**
 * Asks the cluster whom an upstream accepts, and proxies for tokens. When the whole cluster is silent the upstream
 * itself is asked, where back-to-source allows it.
 */
export class AccessClient {
  readonly #deps: AccessClientDeps;
  readonly #policy: BackToSourcePolicy;
  /** Names asked for at proxies, and whether the cluster knows them. */
  readonly #own = new ExpiringMap<boolean>(MAX_NAMES);

  constructor(deps: AccessClientDeps, options: { readonly backToSource: BackToSourcePolicy }) {
    this.#deps = deps;
    this.#policy = options.backToSource;
  }

  async check(
    name: ResolvedName,
    item: AccessItem,
    authorization: string | undefined,
    signal?: AbortSignal,
  ): Promise<AccessAnswer> {
    const { gate, nowMs } = this.#deps;
    const headers = authorization === undefined ? {} : { [H_UPSTREAM_AUTHORIZATION]: authorization };
    const call = { ...accessCall(name, item), headers };
    let isShown = false;
    try {
      let targets = this.#origins(shardKey(name.upstream, name.repository));
      if (carriesPassword(authorization)) {
        targets = [await this.#awake(targets, to(ORIGIN_RECORDS.cluster))];
        isShown = true;
      }
      const answer = await this.#ask<AccessAnswer>(
        targets,
        call,
        isShown ? FIRST_ANSWER_MS.join : FIRST_ANSWER_MS.agent,
        isShown ? undefined : signal,
      );
      gate.note(true, nowMs());
      return answer;
    } catch (error) {
      throwIfBug(error);
      signal?.throwIfAborted();
      if (isDecisive(error) || isShown) throw error;
      gate.note(false, nowMs(), error);
      return await this.#askUpstream(name, item, authorization, error);
    }
  }

  async base(upstream: string): Promise<AccessAnswer> {
    return await this.#ask<AccessAnswer>(this.#origins(upstream), to(ORIGIN_RECORDS.access, { upstream }));
  }

  /** A token for somebody who logs in: a proxy knows accounts and limits. */
  async login(request: TokenRequest, credentials: BasicCredentials): Promise<TokenAnswer> {
    const call = {
      ...to(PROXY.token),
      headers: { [H_UPSTREAM_AUTHORIZATION]: basic(credentials), 'content-type': 'application/json' },
      body: JSON.stringify(request),
    };
    const question = to(PROXY.accounts, { name: credentials.username });
    const proxy = await this.#awake(this.#proxies(), question);
    return await this.#ask<TokenAnswer>([proxy], call, FIRST_ANSWER_MS.join);
  }

  /** True for an account of the cluster. Where no proxy says so it counts as one: its password goes nowhere. */
  async isOwnAccount(username: string): Promise<boolean> {
    const { cluster, nowMs } = this.#deps;
    if (cluster.document.accounts === undefined) return false;
    const known = this.#own.get(username, nowMs());
    if (known !== undefined) return known;
    try {
      const call = to(PROXY.accounts, { name: username });
      const { isOwn } = await this.#ask<{ isOwn: boolean }>(this.#proxies(), call);
      this.#own.set(username, isOwn !== false, nowMs() + OWN_ACCOUNT_MS);
      return isOwn !== false;
    } catch (error) {
      throwIfBug(error);
      return true;
    }
  }

  /**
   * The first that answers a small question. What carries a password is sent to it alone, and once: each try counts at
   * the upstream or the accounts, and a member that thinks long is waited for.
   */
  async #awake(
    targets: readonly Target[],
    question: Pick<InternalRequest, 'method' | 'path'>,
  ): Promise<Target> {
    const { client, health } = this.#deps;
    const ask = async (target: Target, signal: AbortSignal): Promise<Target> =>
      await health.watch(target, ACCESS_HEDGE_MS, async () => {
        const call = { ...question, headers: FILLED, headersTimeoutMs: AWAKE_MS.agent, signal };
        const answer = await client.raw({ ...call, url: target.url, to: target.id });
        await answer.body.dump();
        return target;
      });
    const first = async (signal: AbortSignal): Promise<Target> =>
      await firstAnswer(targets, ask, { hedgeAfterMs: ACCESS_HEDGE_MS, signal });
    return await health.attend(targets, first);
  }

  async #ask<T>(
    targets: readonly Target[],
    call: Omit<InternalRequest, 'url' | 'to' | 'headersTimeoutMs'>,
    headersTimeoutMs: number = FIRST_ANSWER_MS.agent,
    gone?: AbortSignal,
  ): Promise<T> {
    const { client, health } = this.#deps;
    const silentMs = headersTimeoutMs === FIRST_ANSWER_MS.agent ? ACCESS_HEDGE_MS * 3 : headersTimeoutMs;
    const ask = async (target: Target, signal: AbortSignal): Promise<T> =>
      await health.watch(target, silentMs, async () => {
        const { bytes } = await client.bytes({
          ...call,
          url: target.url,
          to: target.id,
          headersTimeoutMs,
          signal,
        });
        return JSON.parse(bytes.toString('utf8')) as T;
      });
    const first = async (signal: AbortSignal): Promise<T> =>
      await firstAnswer(targets, ask, { hedgeAfterMs: ACCESS_HEDGE_MS, isFinal, signal });
    return await health.attend(targets, first, gone);
  }

  #proxies(): Target[] {
    const { cluster, health, nodeId } = this.#deps;
    return proxiesOf(cluster, health, nodeId);
  }

  #origins(key: string): Target[] {
    const { cluster, health } = this.#deps;
    return originsOf(cluster, health, key);
  }

  async #askUpstream(
    name: ResolvedName,
    item: AccessItem,
    authorization: string | undefined,
    cause: unknown,
  ): Promise<AccessAnswer> {
    const { cluster, gate, nowMs, dateMs, upstreamClient } = this.#deps;
    const hasUrl = cluster.upstream(name.upstream).url !== undefined;
    if (sourceDelayMs(this.#policy, hasUrl, gate.silentForMs(nowMs()), 0) === undefined) throw cause;
    const client = upstreamClient(name.upstream);
    const given = authorization === undefined ? undefined : authorizerOf(client, authorization);
    for (const [verdict, as] of [['granted', given] as const, ['public', client.own] as const]) {
      if (as === undefined) continue;
      try {
        await readItem(client, name.repository, item, as, AbortSignal.timeout(ASK_UPSTREAM_MS));
        const untilMs =
          verdict === 'granted' ? believableUntilMs(authorization ?? '', dateMs()) : Number.MAX_SAFE_INTEGER;
        return { verdict, ttlMs: Math.max(0, Math.min(OWN_TTL_MS, untilMs - dateMs())) };
      } catch (error) {
        throwIfBug(error);
        const isAnswer = verdict === 'public' ? !isOfWhoAsks(error) : !isOfCredentials(error);
        if (isAnswer || !isCoded(error, 'UPSTREAM_DENIED')) throw isCoded(error) ? error : cause;
      }
    }
    const challenge = client.own.challenge(`repository:${name.repository}:pull`);
    if (challenge?.scheme === 'basic') return { verdict: 'challenge', challenge };
    return {
      verdict: 'challenge',
      challenge: { scheme: 'bearer', service: challenge?.service, scope: challenge?.scope },
    };
  }
}

function authorizerOf(client: UpstreamClient, authorization: string): Authorizer | undefined {
  const credentials = parseBasic(authorization);
  if (credentials !== undefined) return client.authorizer(credentials);
  const token = parseBearer(authorization);
  return token === undefined ? undefined : new GivenToken(token);
}

/** What another member would not better: certain answers, the upstream's failures, and that somebody guesses passwords. */
function isFinal(error: unknown): boolean {
  return isDecisive(error) || isUpstreamFailure(error) || isCoded(error, 'OVERLOADED');
}
