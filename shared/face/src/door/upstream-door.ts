import type { Audit } from '@sepia/base/audit';
import { CodedError, isCoded } from '@sepia/base/errors';
import type { ResolvedName } from '@sepia/base/names/upstream-name';
import type { AccessAnswer, AccessChallenge, AccessItem } from '@sepia/cluster/api/access';
import { goneSignal } from '@sepia/http/client-gone';
import { type RegistryRoute, referenceText } from '@sepia/oci/route';
import type { Context } from 'koa';
import { AccessTokens } from '../access/access-tokens.ts';
import {
  type BasicCredentials,
  MAX_AUTHORIZATION_CHARS,
  parseBasic,
  parseBearer,
} from '../access/authorization.ts';
import { addressOf, auditFacts } from './client-facts.ts';
import { challengeText } from './realm.ts';
import type { UpstreamAccess } from './upstream-access.ts';

/** Shows a password to an upstream under the limits of logins. @throws {CodedError} `OVERLOADED` */
export type ShowPassword = (
  upstream: string,
  credentials: BasicCredentials,
  address: string,
  ask: () => Promise<AccessAnswer>,
) => Promise<AccessAnswer>;

interface UpstreamDoorDeps {
  readonly access: UpstreamAccess;
  readonly isOwnAccount?: (username: string) => boolean | Promise<boolean>;
  readonly showPassword?: ShowPassword;
  readonly audit: Audit;
  readonly baseOf: (ctx: Context) => string;
  /** Upstream that a token was fetched from here, if it is known. */
  readonly boundTo: (authorization: string) => string | undefined;
}

/** Lets those read whom the upstream itself accepts for the repository: everybody, or who brings the right credentials. */
export class UpstreamDoor {
  readonly #deps: UpstreamDoorDeps;

  constructor(deps: UpstreamDoorDeps) {
    this.#deps = deps;
  }

  /** Writes pass: they are refused where they are taken. @throws {CodedError} `AUTH_REQUIRED` with a challenge, `AUTH_DENIED` */
  async pass(
    ctx: Context,
    target: ResolvedName,
    route: RegistryRoute,
    run: () => Promise<void>,
  ): Promise<void> {
    if (ctx.method !== 'GET' && ctx.method !== 'HEAD') return await run();
    const authorization = await this.#forUpstream(ctx, target.upstream);
    const item = itemOf(route);
    await this.#admit(ctx, target, item, authorization);
    try {
      return await run();
    } catch (error) {
      if (ctx.headerSent || !isCoded(error, 'UPSTREAM_DENIED')) throw error;
      // The upstream took back what was believed, or what it was fetched with ran out: it is asked anew, once.
      this.#deps.access.forget(target, authorization);
    }
    await this.#admit(ctx, target, item, authorization);
    try {
      await run();
    } catch (error) {
      if (ctx.headerSent || !isCoded(error, 'UPSTREAM_DENIED')) throw error;
      const challenge = { scheme: 'bearer', scope: `repository:${target.repository}:pull` } as const;
      throw this.#refuse(
        ctx,
        target,
        error.detail['status'] === 401
          ? { verdict: 'challenge', challenge }
          : { verdict: 'denied', message: error.message },
        authorization,
      );
    }
  }

  async #admit(
    ctx: Context,
    target: ResolvedName,
    item: AccessItem,
    authorization: string | undefined,
  ): Promise<void> {
    const { access, showPassword } = this.#deps;
    const basic = authorization === undefined ? undefined : parseBasic(authorization);
    // What becomes of a password is waited for, whoever leaves: it is counted.
    const gone = basic === undefined ? goneSignal(ctx) : undefined;
    const ask = async (): Promise<AccessAnswer> => await access.decide(target, item, authorization, gone);
    const answer =
      basic === undefined || showPassword === undefined || access.isKnown(target, authorization)
        ? await ask()
        : await showPassword(target.upstream, basic, addressOf(ctx), ask);
    if (answer.verdict === 'challenge' || answer.verdict === 'denied')
      throw this.#refuse(ctx, target, answer, authorization);
  }

  #refuse(
    ctx: Context,
    target: ResolvedName,
    answer: Extract<AccessAnswer, { verdict: 'challenge' | 'denied' }>,
    authorization: string | undefined,
  ): CodedError {
    const detail = { upstream: target.upstream, repository: target.repository };
    const reason =
      answer.verdict === 'denied' ? answer.message : 'the upstream does not accept the credentials';
    // Clients ask without credentials first: that alone is nothing to note.
    if (authorization !== undefined || answer.verdict === 'denied')
      this.#deps.audit.note({ event: 'denied', ...auditFacts(ctx, target), action: 'read', reason });
    if (answer.verdict === 'denied')
      return new CodedError('AUTH_DENIED', { message: answer.message, detail });
    this.#challenge(ctx, target, answer.challenge, authorization);
    return new CodedError('AUTH_REQUIRED', { detail });
  }

  #challenge(
    ctx: Context,
    target: ResolvedName,
    challenge: AccessChallenge,
    authorization: string | undefined,
  ): void {
    const base = this.#deps.baseOf(ctx);
    const error = authorization === undefined ? undefined : ('invalid_token' as const);
    ctx.set('WWW-Authenticate', challengeText({ base, challenge, upstream: target.upstream, error }));
  }

  /** What goes on to the upstream: nothing of the cluster's own, nothing that another upstream gave. */
  async #forUpstream(ctx: Context, upstream: string): Promise<string | undefined> {
    const authorization = ctx.get('authorization');
    if (authorization === '') return undefined;
    if (authorization.length > MAX_AUTHORIZATION_CHARS)
      throw new CodedError('REQUEST_INVALID', {
        message: `Authorization is longer than ${MAX_AUTHORIZATION_CHARS} characters`,
      });
    const token = parseBearer(authorization);
    if (token !== undefined) {
      const boundTo = this.#deps.boundTo(authorization);
      const isForeign = boundTo !== undefined && boundTo !== upstream;
      return isForeign || AccessTokens.isOwn(token) ? undefined : `Bearer ${token}`;
    }
    const basic = parseBasic(authorization);
    if (basic === undefined || (await this.#isOwn(basic))) return undefined;
    return authorization;
  }

  async #isOwn({ username }: BasicCredentials): Promise<boolean> {
    return (await this.#deps.isOwnAccount?.(username)) === true;
  }
}

function itemOf(route: RegistryRoute): AccessItem {
  if (route.type === 'manifest') return { kind: 'manifest', reference: referenceText(route.reference) };
  if (route.type === 'blob') return { kind: 'blob', digest: route.digest };
  return { kind: 'repository' };
}
