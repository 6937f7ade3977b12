import type { AccessTokens } from '@sepia/shared/access/access-tokens';
import type { BasicCredentials } from '@sepia/shared/access/authorization';
import { grantsFor, issueToken } from '@sepia/shared/access/grants';
import { type AccessRules, accessMode } from '@sepia/shared/access/rules';
import type { Audit } from '@sepia/shared/audit';
import type { Cluster } from '@sepia/shared/cluster/cluster';
import { CodedError, isCoded } from '@sepia/shared/errors';
import type { TokenAnswer, TokenRequest } from '@sepia/shared/wire/access';
import { LoginLimits } from '../core/login-limits.ts';
import type { Accounts } from './accounts.ts';
import type { OriginAccess } from './origin-access.ts';

interface LoginsDeps {
  readonly cluster: Cluster;
  readonly tokens: AccessTokens;
  readonly origins: Pick<OriginAccess, 'token'>;
  readonly audit: Audit;
  readonly nowMs: () => number;
  /** Undefined where the cluster has no accounts. */
  readonly own:
    | { readonly accounts: Accounts; readonly rules: AccessRules; readonly tokenLifeMs: number }
    | undefined;
}

/** Turns user and password into tokens: the cluster's for its accounts, the upstream's for everybody else. */
export class Logins {
  readonly #deps: LoginsDeps;
  readonly #limits = new LoginLimits();

  constructor(deps: LoginsDeps) {
    this.#deps = deps;
  }

  /** True for a name that the cluster itself knows: its password never goes to an upstream. */
  isOwn = (username: string): boolean => this.#deps.own?.accounts.has(username) === true;

  /** @throws {CodedError} `AUTH_REQUIRED` for wrong credentials, `OVERLOADED`, what the upstream's token service says */
  async login(request: TokenRequest, credentials: BasicCredentials): Promise<TokenAnswer> {
    const { cluster, own } = this.#deps;
    const mode = accessMode(cluster, request.upstream);
    if (own !== undefined && (mode === 'accounts' || own.accounts.has(credentials.username)))
      return await this.#ownToken(
        own,
        mode === 'accounts' ? request : { ...request, scopes: [] },
        credentials,
      );
    return await this.#upstreamToken(request, credentials);
  }

  /** True if the password is right. @throws {CodedError} `OVERLOADED` after too many wrong ones */
  async verify(credentials: BasicCredentials, address: string): Promise<boolean> {
    const { own, audit, nowMs } = this.#deps;
    if (own === undefined) return false;
    if (own.accounts.remembers(credentials)) return true;
    const { username: account } = credentials;
    this.#checkLimits(account, address, undefined);
    const isRight = await own.accounts.verify(credentials);
    if (isRight) this.#limits.succeeded(account, address);
    else this.#limits.failed(account, address, nowMs());
    audit.note({ event: 'login', account: shown(account), address, outcome: isRight ? 'ok' : 'failed' });
    return isRight;
  }

  async #ownToken(
    own: NonNullable<LoginsDeps['own']>,
    request: TokenRequest,
    credentials: BasicCredentials,
  ): Promise<TokenAnswer> {
    if (!(await this.verify(credentials, request.address ?? '')))
      throw new CodedError('AUTH_REQUIRED', { message: 'account or password is wrong' });
    const account = credentials.username;
    const access = grantsFor(own.rules, account, request.upstream, request.scopes);
    return await issueToken(this.#deps, { account, access }, own.tokenLifeMs);
  }

  async #upstreamToken(request: TokenRequest, credentials: BasicCredentials): Promise<TokenAnswer> {
    const { audit, nowMs, origins } = this.#deps;
    const { username } = credentials;
    const { upstream, address = '' } = request;
    const facts = { event: 'login', account: shown(username), address, upstream } as const;
    this.#checkLimits(`${upstream}\n${username}`, address, upstream);
    try {
      const answer = await origins.token(request, credentials);
      this.#limits.succeeded(`${upstream}\n${username}`, address);
      audit.note({ ...facts, outcome: 'ok' });
      return answer;
    } catch (error) {
      if (!isCoded(error, 'UPSTREAM_DENIED')) throw error;
      this.#limits.failed(`${upstream}\n${username}`, address, nowMs());
      audit.note({ ...facts, outcome: 'failed' });
      throw new CodedError('AUTH_REQUIRED', {
        message: `upstream ${upstream} does not accept the credentials`,
        detail: { upstream },
        cause: error,
      });
    }
  }

  #checkLimits(account: string, address: string, upstream: string | undefined): void {
    const waitMs = this.#limits.waitMs(account, address, this.#deps.nowMs());
    if (waitMs === 0) return;
    this.#deps.audit.note({
      event: 'login',
      account: shown(account.split('\n').at(-1) ?? ''),
      address,
      upstream,
      outcome: 'limited',
    });
    throw new CodedError('OVERLOADED', {
      message: 'too many failed logins; try again later',
      detail: { retryAfterSeconds: Math.ceil(waitMs / 1000) },
    });
  }
}

/** An account name for a log: whoever types a password into the wrong field types no long one. */
function shown(account: string): string {
  return account.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, 128);
}
