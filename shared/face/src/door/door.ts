import type { Audit } from '@sepia/base/audit';
import { CodedError } from '@sepia/base/errors';
import { ExpiringMap } from '@sepia/base/expiring-map';
import { ignoreFailure } from '@sepia/base/failure';
import { pause } from '@sepia/base/lifecycle';
import {
  type NamedUpstream,
  type ResolvedName,
  resolveName,
  upstreamOfHost,
} from '@sepia/base/names/upstream-name';
import type { AccessMode } from '@sepia/cluster/accounts-document';
import type { AccessAnswer, TokenAnswer, TokenRequest } from '@sepia/cluster/api/access';
import type { Cluster } from '@sepia/cluster/cluster';
import type { RequestState } from '@sepia/http/app';
import { queryValue } from '@sepia/http/signed';
import type { RegistryRoute } from '@sepia/oci/route';
import type { Context } from 'koa';
import type { AccessTokens } from '../access/access-tokens.ts';
import { type BasicCredentials, hashOf } from '../access/authorization.ts';
import { grantsFor, issueToken } from '../access/grants.ts';
import { type AccessRules, accessMode } from '../access/rules.ts';
import { parseRepositoryScope, repositoryScope } from '../access/scope.ts';
import { ANONYMOUS_MS, BASE_MS, BINDING_MS } from '../deadlines.ts';
import { AccountDoor } from './account-door.ts';
import { addressOf, auditFacts } from './client-facts.ts';
import { challengeText, publicBase } from './realm.ts';
import { readTokenRequest } from './token-request.ts';
import type { UpstreamAccess } from './upstream-access.ts';
import { type ShowPassword, UpstreamDoor } from './upstream-door.ts';

const MAX_BINDINGS = 20_000;

export interface DoorDeps {
  readonly cluster: Cluster;
  readonly upstreams: () => readonly NamedUpstream[];
  readonly tokens: AccessTokens;
  /** Undefined where the cluster has no accounts. */
  readonly rules: AccessRules | undefined;
  readonly access: UpstreamAccess;
  /** What `/v2/` of an upstream asks for. */
  readonly askBase: (upstream: string) => Promise<AccessAnswer>;
  /** A token for somebody who logs in. @throws {CodedError} `AUTH_REQUIRED`, `OVERLOADED`, and what the upstream says */
  readonly login: (request: TokenRequest, credentials: BasicCredentials) => Promise<TokenAnswer>;
  /** Checks a password on the spot; only proxies can. @throws as `login` */
  readonly verifyBasic?: (credentials: BasicCredentials, address: string) => Promise<boolean>;
  /** True of an account of the cluster that was taken away lately; only proxies know. */
  readonly isGone?: (username: string) => boolean;
  /** True for credentials that are the cluster's own and must not reach an upstream. */
  readonly isOwnAccount?: (username: string) => boolean | Promise<boolean>;
  readonly showPassword?: ShowPassword;
  readonly audit: Audit;
  readonly nowMs: () => number;
  /** The cluster's date, which may be set. */
  readonly dateMs: () => number;
}

export interface DoorOptions {
  readonly defaultUpstream: string;
  /** Where clients reach this listener, if not by the Host that they name. */
  readonly publicUrl: string | undefined;
}

/** Answers a request that was let in. */
export type Run = () => Promise<void>;

/** Who may pass a listener of agent or proxy: one per listener. Signed calls of members do not come here. */
export class Door {
  readonly #deps: DoorDeps;
  readonly #options: DoorOptions;
  readonly #accounts: AccountDoor | undefined;
  readonly #upstream: UpstreamDoor;
  /** Upstream that a token came from, by its hash: it is never shown to another. */
  readonly #bindings = new ExpiringMap<string>(MAX_BINDINGS);

  constructor(deps: DoorDeps, options: DoorOptions) {
    this.#deps = deps;
    this.#options = options;
    const parts = { ...deps, baseOf: (ctx: Context) => publicBase(ctx, options.publicUrl) };
    this.#accounts = deps.rules === undefined ? undefined : new AccountDoor({ ...parts, rules: deps.rules });
    this.#upstream = new UpstreamDoor({
      ...parts,
      boundTo: (authorization) => this.#bindings.get(hashOf(authorization), deps.nowMs()),
    });
  }

  /** `GET /v2/`: docker, podman and skopeo learn here that they have to bring a token. */
  async base(ctx: Context): Promise<void> {
    const upstream = this.#options.defaultUpstream;
    const mode = this.#mode(upstream);
    if (mode === 'accounts') return await this.#accounts!.base(ctx);
    if (mode === 'cluster' || ctx.get('authorization') !== '') return;
    // An upstream that does not answer is no reason to send clients away: content is checked all the same. But it is none
    // to tell somebody who logs in that all is well either: the way to our own `/token` does neither.
    const late = new AbortController();
    const answer = await Promise.race([
      this.#deps.askBase(upstream).catch(ignoreFailure),
      pause(BASE_MS, late.signal).then(() => undefined),
    ]);
    late.abort();
    if (answer?.verdict === 'public') return;
    const challenge = answer?.verdict === 'challenge' ? answer.challenge : ({ scheme: 'bearer' } as const);
    const base = publicBase(ctx, this.#options.publicUrl);
    ctx.set('WWW-Authenticate', challengeText({ base, challenge, upstream: undefined }));
    throw new CodedError('AUTH_REQUIRED');
  }

  /** The catalog names repositories of every kind: it is for accounts that may read them all, or of an upstream that lets everybody in. @throws {CodedError} `AUTH_REQUIRED`, `AUTH_DENIED` */
  async catalog(ctx: Context, upstream: string): Promise<void> {
    const mode = this.#mode(upstream);
    if (mode === 'accounts') return await this.#accounts!.catalog(ctx, upstream);
    if (mode === 'upstream' && (await this.#deps.askBase(upstream)).verdict !== 'public')
      throw new CodedError('AUTH_DENIED', {
        message: `the catalog would name private repositories of upstream ${upstream}; ask the upstream itself`,
        detail: { upstream },
      });
  }

  /** Runs a request of a client whom the repository is open to. @throws {CodedError} `AUTH_REQUIRED` with a challenge, `AUTH_DENIED` */
  async pass(ctx: Context, target: ResolvedName, route: RegistryRoute, run: Run): Promise<void> {
    const mode = this.#mode(target.upstream);
    if (mode === 'accounts')
      await this.#accounts!.pass(ctx, target, route, run, (from) =>
        this.#resolve(queryValue(ctx, 'ns'), from),
      );
    else if (mode === 'upstream') await this.#upstream.pass(ctx, target, route, run);
    else {
      (ctx.state as RequestState).mayPush = true;
      await run();
    }
    this.#auditWrite(ctx, target, route);
  }

  /** `/token`: tokens of the cluster for its accounts, of the upstream's own service for private upstreams. */
  async token(ctx: Context): Promise<void> {
    (ctx.state as RequestState).route = 'token';
    ctx.set('Cache-Control', 'no-store');
    const asked = await readTokenRequest(ctx);
    const { upstream, scopes } = this.#scopesOf(asked.ns, asked.scopes);
    const { credentials } = asked;
    const answer =
      credentials === undefined || this.#mode(upstream) === 'cluster'
        ? await this.#anonymousToken(upstream, scopes)
        : await this.#deps.login({ upstream, scopes, address: addressOf(ctx) }, credentials);
    if (this.#mode(upstream) === 'upstream') this.#noteToken(upstream, answer);
    ctx.body = { ...answer, access_token: answer.token };
  }

  #noteToken(upstream: string, { token, expires_in, issued_at }: TokenAnswer): void {
    const { nowMs, dateMs, access } = this.#deps;
    const authorization = `Bearer ${token}`;
    this.#bindings.set(hashOf(authorization), upstream, nowMs() + BINDING_MS);
    const ageMs = Math.max(0, dateMs() - (Date.parse(issued_at) || dateMs()));
    access.noteEnd(authorization, nowMs() + expires_in * 1_000 - ageMs);
  }

  async #anonymousToken(upstream: string, scopes: readonly string[]): Promise<TokenAnswer> {
    const access =
      this.#mode(upstream) === 'accounts' ? grantsFor(this.#deps.rules!, undefined, upstream, scopes) : [];
    return await issueToken(
      { tokens: this.#deps.tokens, nowMs: this.#deps.dateMs },
      { account: undefined, access },
      ANONYMOUS_MS,
    );
  }

  /**
   * Which upstream scopes are about, in that upstream's own names: what the realm said, else the names in the scopes,
   * as in a path of `/v2`; none: the listener's default. A token is for one upstream: of several it is the one that
   * something is pushed to, and what others are asked for is not granted, as clients ask of the source of each layer
   * that they would mount. @throws {CodedError} `UPSTREAM_UNKNOWN`
   */
  #scopesOf(ns: string | undefined, asked: readonly string[]): { upstream: string; scopes: string[] } {
    const all = asked.map((scope) => {
      const parsed = parseRepositoryScope(scope);
      if (parsed === undefined) return { scope, upstream: undefined, isWrite: false };
      const { upstream, repository } = this.#resolve(ns, parsed.name);
      const isWrite = parsed.actions.some((action) => action !== 'pull');
      return { scope: repositoryScope(repository, parsed.actions), upstream, isWrite };
    });
    const named = ns === undefined ? undefined : upstreamOfHost(ns, this.#deps.upstreams())?.name;
    if (ns !== undefined && named === undefined)
      throw new CodedError('UPSTREAM_UNKNOWN', { detail: { ns: ns.slice(0, 200) } });
    const first = all.find(({ isWrite }) => isWrite) ?? all.find((one) => one.upstream !== undefined);
    const upstream = named ?? first?.upstream ?? this.#options.defaultUpstream;
    const own = all.filter((one) => one.upstream === undefined || one.upstream === upstream);
    return { upstream, scopes: own.map(({ scope }) => scope) };
  }

  #resolve(ns: string | undefined, name: string): ResolvedName {
    const { defaultUpstream } = this.#options;
    return resolveName({ ns, name, defaultUpstream }, this.#deps.upstreams());
  }

  #mode(upstream: string): AccessMode {
    return accessMode(this.#deps.cluster, upstream);
  }

  #auditWrite(ctx: Context, target: ResolvedName, route: RegistryRoute): void {
    const isPush = ctx.method === 'PUT' && route.type === 'manifest';
    const isDelete = ctx.method === 'DELETE' && (route.type === 'manifest' || route.type === 'blob');
    if ((!isPush && !isDelete) || ctx.status >= 300) return;
    const reference = route.type === 'manifest' ? referenceOf(route) : undefined;
    const digest = ctx.response.get('docker-content-digest') || (route.type === 'blob' ? route.digest : '');
    this.#deps.audit.note({
      event: isPush ? 'push' : 'delete',
      ...auditFacts(ctx, target),
      reference,
      digest: digest === '' ? undefined : digest,
    });
  }
}

function referenceOf(route: Extract<RegistryRoute, { type: 'manifest' }>): string {
  return route.reference.kind === 'tag' ? route.reference.tag : route.reference.digest;
}
