import type { Audit } from '@sepia/base/audit';
import { CodedError } from '@sepia/base/errors';
import type { ResolvedName } from '@sepia/base/names/upstream-name';
import type { RequestState } from '@sepia/http/app';
import { queryValue } from '@sepia/http/signed';
import type { RegistryRoute } from '@sepia/oci/route';
import type { Context } from 'koa';
import type { AccessTokens, Grant } from '../access/access-tokens.ts';
import {
  type BasicCredentials,
  MAX_AUTHORIZATION_CHARS,
  parseBasic,
  parseBearer,
} from '../access/authorization.ts';
import { OWN_SERVICE } from '../access/grants.ts';
import { type AccessRules, type Action, TOKEN_ACTIONS } from '../access/rules.ts';
import { repositoryScope } from '../access/scope.ts';
import { addressOf, auditFacts } from './client-facts.ts';
import { mountSource } from './mount-source.ts';
import { challengeText } from './realm.ts';

interface AccountDoorDeps {
  readonly tokens: AccessTokens;
  readonly rules: AccessRules;
  readonly verifyBasic?: (credentials: BasicCredentials, address: string) => Promise<boolean>;
  /** True of an account that was taken away lately: its tokens count no longer. Only proxies know. */
  readonly isGone?: (username: string) => boolean;
  readonly audit: Audit;
  readonly baseOf: (ctx: Context) => string;
}

/** Who a request speaks for. `access`: what its token grants; undefined for no token, where the rules alone decide. */
interface Caller {
  readonly account: string | undefined;
  readonly access: readonly Grant[] | undefined;
}

/** Who was let in, and all that the rules allow them in the repository. */
interface Admitted {
  readonly caller: Caller;
  readonly allowed: ReadonlySet<Action>;
}

/** Lets accounts do what the rules of the cluster document allow: by a token of the cluster, or by Basic at a proxy. */
export class AccountDoor {
  readonly #deps: AccountDoorDeps;

  constructor(deps: AccountDoorDeps) {
    this.#deps = deps;
  }

  /** Whoever comes without anything is told where tokens are. @throws {CodedError} `AUTH_REQUIRED` */
  async base(ctx: Context): Promise<void> {
    if (ctx.get('authorization') === '') throw this.#challenged(ctx, undefined, undefined);
    await this.#caller(ctx, undefined);
  }

  async catalog(ctx: Context, upstream: string): Promise<void> {
    const caller = await this.#caller(ctx, undefined);
    if (this.#deps.rules.readsAll(caller.account, upstream)) return;
    if (caller.account === undefined) throw this.#challenged(ctx, undefined, undefined);
    throw new CodedError('AUTH_DENIED', { message: 'the catalog is for accounts that may read everything' });
  }

  /** `resolve`: what the `from` of a mount means. @throws {CodedError} `AUTH_REQUIRED` with a challenge, `AUTH_DENIED` */
  async pass(
    ctx: Context,
    target: ResolvedName,
    route: RegistryRoute,
    run: () => Promise<void>,
    resolve: (name: string) => ResolvedName,
  ): Promise<void> {
    const action = actionOf(ctx.method, route);
    const admit = async (): Promise<Admitted> => await this.#admit(ctx, target, action);
    const { caller, allowed } = await admit();
    if (route.type === 'uploads') this.#checkMount(ctx, caller, target, resolve);
    const state = ctx.state as RequestState;
    state.mayPush = allowed.has('write') && grants(caller, target, 'write');
    state.stillMay = async () => void (await admit());
    await run();
  }

  async #admit(ctx: Context, target: ResolvedName, action: Action): Promise<Admitted> {
    const caller = await this.#caller(ctx, { target, action });
    const allowed = this.#deps.rules.allowed(caller.account, target);
    const isAllowed = allowed.has(action);
    if (!isAllowed && caller.account !== undefined)
      throw this.#denied(ctx, target, action, 'no rule allows it');
    if (!isAllowed) throw this.#challenged(ctx, { target, action }, undefined);
    if (!grants(caller, target, action))
      throw this.#challenged(ctx, { target, action }, 'insufficient_scope');
    return { caller, allowed };
  }

  /** Drops `mount` and `from` where the caller may not read the source: the request then begins an ordinary upload. */
  #checkMount(
    ctx: Context,
    caller: Caller,
    target: ResolvedName,
    resolve: (name: string) => ResolvedName,
  ): void {
    const from = queryValue(ctx, 'from');
    if (from === undefined || queryValue(ctx, 'mount') === undefined) return;
    const source = mountSource(from, resolve);
    if (
      source?.upstream === target.upstream &&
      this.#deps.rules.allowed(caller.account, source).has('read')
    ) {
      if (source.repository === target.repository || grants(caller, source, 'read')) return;
    }
    const { mount: _mount, from: _from, ...rest } = ctx.query;
    ctx.query = rest;
  }

  async #caller(
    ctx: Context,
    wanted: { readonly target: ResolvedName; readonly action: Action } | undefined,
  ): Promise<Caller> {
    const authorization = ctx.get('authorization');
    if (authorization === '') return { account: undefined, access: undefined };
    if (authorization.length > MAX_AUTHORIZATION_CHARS)
      throw new CodedError('REQUEST_INVALID', {
        message: `Authorization is longer than ${MAX_AUTHORIZATION_CHARS} characters`,
      });
    const token = parseBearer(authorization);
    if (token !== undefined) {
      const holder = await this.#deps.tokens.verify(token);
      const isGone = holder?.account !== undefined && this.#deps.isGone?.(holder.account) === true;
      if (holder === undefined || isGone) throw this.#challenged(ctx, wanted, 'invalid_token');
      noteAccount(ctx, holder.account);
      return holder;
    }
    const basic = parseBasic(authorization);
    const { verifyBasic } = this.#deps;
    if (basic === undefined || verifyBasic === undefined) throw this.#challenged(ctx, wanted, undefined);
    if (!(await verifyBasic(basic, addressOf(ctx)))) throw this.#challenged(ctx, wanted, undefined);
    noteAccount(ctx, basic.username);
    return { account: basic.username, access: undefined };
  }

  #challenged(
    ctx: Context,
    wanted: { readonly target: ResolvedName; readonly action: Action } | undefined,
    error: 'invalid_token' | 'insufficient_scope' | undefined,
  ): CodedError {
    const scope =
      wanted === undefined
        ? undefined
        : repositoryScope(wanted.target.repository, [
            ...new Set([TOKEN_ACTIONS.read, TOKEN_ACTIONS[wanted.action]]),
          ]);
    const challenge = { scheme: 'bearer', service: OWN_SERVICE, scope } as const;
    const upstream = wanted?.target.upstream;
    ctx.set('WWW-Authenticate', challengeText({ base: this.#deps.baseOf(ctx), challenge, upstream, error }));
    if (wanted !== undefined && ctx.get('authorization') !== '')
      this.#note(ctx, wanted.target, wanted.action, error ?? 'not logged in');
    return new CodedError('AUTH_REQUIRED', {
      detail: wanted === undefined ? {} : { repository: wanted.target.repository, action: wanted.action },
    });
  }

  #denied(ctx: Context, target: ResolvedName, action: Action, reason: string): CodedError {
    this.#note(ctx, target, action, reason);
    return new CodedError('AUTH_DENIED', {
      message: `this account may not ${action} here`,
      detail: { upstream: target.upstream, repository: target.repository, action },
    });
  }

  #note(ctx: Context, target: ResolvedName, action: Action, reason: string): void {
    this.#deps.audit.note({ event: 'denied', ...auditFacts(ctx, target), action, reason });
  }
}

function noteAccount(ctx: Context, account: string | undefined): void {
  (ctx.state as { account?: string | undefined }).account = account;
}

/** What a token grants; without one the rules alone decide. */
function grants(caller: Caller, target: ResolvedName, action: Action): boolean {
  if (caller.access === undefined) return true;
  return caller.access.some(
    ({ upstream, name, actions }) =>
      upstream === target.upstream && name === target.repository && actions.includes(TOKEN_ACTIONS[action]),
  );
}

function actionOf(method: string, route: RegistryRoute): Action {
  if (route.type === 'uploads' || route.type === 'upload') return 'write';
  if (method === 'DELETE') return 'delete';
  return method === 'GET' || method === 'HEAD' ? 'read' : 'write';
}
