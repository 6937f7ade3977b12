import { firstAnswer } from '@sepia/base/async/ask-many';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { RepositoryName } from '@sepia/base/names/repository';
import type { ResolvedName } from '@sepia/base/names/upstream-name';
import type { AccessAnswer, AccessItem, TokenAnswer, TokenRequest } from '@sepia/cluster/api/access';
import { H_UPSTREAM_AUTHORIZATION } from '@sepia/cluster/api/headers';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import { isDecisive } from '@sepia/cluster/core/answers';
import { AWAKE_MS, FIRST_ANSWER_MS } from '@sepia/cluster/deadlines';
import type { BasicCredentials } from '@sepia/face/access/authorization';
import { parseRepositoryScope } from '@sepia/face/access/scope';
import { accessCall } from '@sepia/face/door/upstream-access';
import { readLimited } from '@sepia/http/client';
import { basic } from '@sepia/upstream/credentials/basic';
import { carriesPassword } from '@sepia/upstream/transport';
import { BESIDE_MISSES, whileAlive } from '../bodies/blob-source.ts';
import type { OriginRequest, Origins } from '../cluster/origins.ts';
import { SLOW_HEDGE_MS } from '../deadlines.ts';

/** It counts as gone after so many unanswered ones in a row: the password cannot be shown to another. */
const MISSES = 5;
const MAX_ANSWER_BYTES = 1024 * 1024;

type AccessCall = Omit<OriginRequest, 'headersTimeoutMs'>;

/** Asks origins whom an upstream accepts, and for its tokens. Credentials travel in a header of the signed call. */
export class OriginAccess {
  readonly #origins: Origins;

  constructor(deps: { readonly origins: Origins }) {
    this.#origins = deps.origins;
  }

  async check(
    name: ResolvedName,
    item: AccessItem,
    authorization: string | undefined,
    signal: AbortSignal,
  ): Promise<AccessAnswer> {
    const headers = authorization === undefined ? {} : { [H_UPSTREAM_AUTHORIZATION]: authorization };
    const key = shardKey(name.upstream, name.repository);
    const call = { ...accessCall(name, item), headers };
    return carriesPassword(authorization)
      ? await this.#askOnce(key, call)
      : await this.#ask(key, call, signal);
  }

  async base(upstream: string): Promise<AccessAnswer> {
    return await this.#ask<AccessAnswer>(upstream, to(ORIGIN_RECORDS.access, { upstream }));
  }

  /** Asked where the token will be checked: that origin knows when it ends. */
  async token(request: TokenRequest, credentials: BasicCredentials): Promise<TokenAnswer> {
    const { upstream, scopes } = request;
    const [scope] = scopes.map(parseRepositoryScope).filter((one) => one !== undefined);
    const key = scope === undefined ? upstream : shardKey(upstream, scope.name as RepositoryName);
    return await this.#askOnce<TokenAnswer>(key, {
      ...to(ORIGIN_RECORDS.token),
      headers: { [H_UPSTREAM_AUTHORIZATION]: basic(credentials), 'content-type': 'application/json' },
      body: JSON.stringify(request),
    });
  }

  /** A question without a password: the next origin is asked beside a silent one. */
  async #ask<T>(key: string, call: AccessCall, signal?: AbortSignal): Promise<T> {
    const ask = async (id: string, abort: AbortSignal): Promise<T> =>
      await whileAlive(
        this.#origins,
        id,
        abort,
        (running) =>
          this.#send<T>(id, { ...call, headersTimeoutMs: FIRST_ANSWER_MS.origin, signal: running }),
        BESIDE_MISSES,
      );
    const how = { hedgeAfterMs: SLOW_HEDGE_MS, isFinal: isDecisive };
    return await firstAnswer(this.#origins.tries(key), ask, signal === undefined ? how : { ...how, signal });
  }

  /**
   * What carries a password is sent to one origin, once: each try counts at the upstream. Which one is found out by a
   * question without it; then that one is waited for as long as it lives, however slow the upstream is.
   */
  async #askOnce<T>(key: string, call: AccessCall): Promise<T> {
    const origins = this.#origins;
    const awake = async (id: string, signal: AbortSignal): Promise<string> => {
      if (await origins.probe(id, signal, AWAKE_MS.proxy)) return id;
      throw new CodedError('PEER_HTTP', { message: `origin ${id} does not answer` });
    };
    const id = await firstAnswer(this.#origins.tries(key), awake, { hedgeAfterMs: SLOW_HEDGE_MS });
    const run = async (signal: AbortSignal): Promise<T> =>
      await this.#send<T>(id, { ...call, headersTimeoutMs: FIRST_ANSWER_MS.origin, signal });
    return await whileAlive(origins, id, new AbortController().signal, run, MISSES);
  }

  async #send<T>(id: string, call: OriginRequest): Promise<T> {
    const answer = await this.#origins.call(id, call);
    const bytes = await readLimited(answer.body, MAX_ANSWER_BYTES, id);
    try {
      return JSON.parse(bytes.toString('utf8')) as T;
    } catch (cause) {
      throwIfBug(cause);
      throw new CodedError('PEER_HTTP', { message: `origin ${id} answered with bad JSON`, cause });
    }
  }
}
