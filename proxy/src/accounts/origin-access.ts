import { firstAnswer } from '@sepia/base/async/hedge';
import { CodedError, isUpstreamFailure } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { RepositoryName } from '@sepia/base/names/repository';
import type { ResolvedName } from '@sepia/base/names/upstream-name';
import type { AccessAnswer, AccessItem, TokenAnswer, TokenRequest } from '@sepia/cluster/api/access';
import { H_CLIENT_AUTH } from '@sepia/cluster/api/headers';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import type { BasicCredentials } from '@sepia/face/access/authorization';
import { parseRepositoryScope } from '@sepia/face/access/scope';
import { accessCall } from '@sepia/face/door/upstream-access';
import { readLimited } from '@sepia/http/client';
import { basic } from '@sepia/upstream/token';
import { isDefinite, type OriginRequest, type Origins } from '../cluster/origins.ts';

/** An origin may have to ask a slow upstream; the next is asked beside a silent one after this, in ms. */
const HEDGE_MS = 1_000;
const TIMEOUT_MS = 15_000;
const MAX_ANSWER_BYTES = 1024 * 1024;

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
  ): Promise<AccessAnswer> {
    const headers = authorization === undefined ? {} : { [H_CLIENT_AUTH]: authorization };
    const key = shardKey(name.upstream, name.repository);
    return await this.#ask<AccessAnswer>(key, {
      ...accessCall(name, item),
      headers,
    });
  }

  async base(upstream: string): Promise<AccessAnswer> {
    return await this.#ask<AccessAnswer>(upstream, to(ORIGIN_RECORDS.access, { upstream }));
  }

  /** Asked where the token will be checked: that origin knows when it ends. */
  async token(request: TokenRequest, credentials: BasicCredentials): Promise<TokenAnswer> {
    const { upstream, scopes } = request;
    const [scope] = scopes.map(parseRepositoryScope).filter((one) => one !== undefined);
    const key = scope === undefined ? upstream : shardKey(upstream, scope.name as RepositoryName);
    return await this.#ask<TokenAnswer>(key, {
      ...to(ORIGIN_RECORDS.token),
      headers: { [H_CLIENT_AUTH]: basic(credentials), 'content-type': 'application/json' },
      body: JSON.stringify(request),
    });
  }

  async #ask<T>(key: string, call: Omit<OriginRequest, 'headersTimeoutMs'>): Promise<T> {
    const ask = async (id: string, signal: AbortSignal): Promise<T> => {
      const answer = await this.#origins.call(id, { ...call, headersTimeoutMs: TIMEOUT_MS, signal });
      const bytes = await readLimited(answer.body, MAX_ANSWER_BYTES, id);
      try {
        return JSON.parse(bytes.toString('utf8')) as T;
      } catch (cause) {
        throwIfBug(cause);
        throw new CodedError('PEER_HTTP', { message: `origin ${id} answered with bad JSON`, cause });
      }
    };
    const order = this.#origins.health.order(this.#origins.placement(key).candidates);
    return await firstAnswer(order, ask, { hedgeAfterMs: HEDGE_MS, isFinal });
  }
}

/** Also what the upstream failed with: another origin would only ask it again. */
function isFinal(error: unknown): boolean {
  return isDefinite(error) || isUpstreamFailure(error);
}
