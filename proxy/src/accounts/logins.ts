import type { Audit } from '@sepia/base/audit';
import { CodedError, isCoded, isUnjudged } from '@sepia/base/errors';
import type { AccessAnswer, TokenAnswer, TokenRequest } from '@sepia/cluster/api/access';
import type { Cluster } from '@sepia/cluster/cluster';
import type { AccessTokens } from '@sepia/face/access/access-tokens';
import type { BasicCredentials } from '@sepia/face/access/authorization';
import { grantsFor, issueToken } from '@sepia/face/access/grants';
import { LoginGuard } from '@sepia/face/access/login-guard';
import { type AccessRules, accessMode } from '@sepia/face/access/rules';
import type { Accounts } from './accounts.ts';
import type { OriginAccess } from './origin-access.ts';

/** The same for accounts of the cluster and of upstreams: nobody learns which names there are. */
const WRONG = 'user or password is wrong';

interface LoginsDeps {
  readonly cluster: Cluster;
  readonly tokens: AccessTokens;
  readonly origins: Pick<OriginAccess, 'token'>;
  readonly audit: Audit;
  readonly nowMs: () => number;
  /** The cluster's date, which may be set. */
  readonly dateMs: () => number;
  /** Undefined where the cluster has no accounts. */
  readonly own:
    | { readonly accounts: Accounts; readonly rules: AccessRules; readonly tokenLifeMs: number }
    | undefined;
}

/** Turns user and password into tokens: the cluster's for its accounts, the upstream's for everybody else. */
export class Logins {
  readonly #deps: LoginsDeps;
  readonly #guard: LoginGuard;

  constructor(deps: LoginsDeps) {
    this.#deps = deps;
    this.#guard = new LoginGuard(deps);
  }

  /** True for a name that the cluster itself knows or knew lately: its password never goes to an upstream. */
  isOwn = (username: string): boolean => this.#deps.own?.accounts.hadLately(username) === true;

  /** @throws {CodedError} `AUTH_REQUIRED` for wrong credentials, `OVERLOADED`, what the upstream's token service says */
  async login(request: TokenRequest, credentials: BasicCredentials): Promise<TokenAnswer> {
    const { cluster, own } = this.#deps;
    const mode = accessMode(cluster, request.upstream);
    if (own !== undefined && (mode === 'accounts' || this.isOwn(credentials.username)))
      return await this.#ownToken(
        own,
        mode === 'accounts' ? request : { ...request, scopes: [] },
        credentials,
      );
    return await this.#upstreamToken(request, credentials);
  }

  /** True if the password is right. @throws {CodedError} `OVERLOADED` after too many wrong ones */
  async verify(credentials: BasicCredentials, address: string): Promise<boolean> {
    const { own, audit } = this.#deps;
    if (own === undefined) return false;
    if (own.accounts.remembers(credentials)) return true;
    const { username: account, password } = credentials;
    const facts = { event: 'login', account: shown(account), address } as const;
    return await this.#guard.run(
      { account, address, password },
      async () => {
        const isRight = await own.accounts.verify(credentials);
        audit.note({ ...facts, outcome: isRight ? 'ok' : 'failed' });
        return { isRight, value: isRight };
      },
      () => audit.note({ ...facts, outcome: 'limited' }),
    );
  }

  /**
   * Shows credentials to an upstream with a read, under the same limits as a login.
   * @throws {CodedError} `OVERLOADED`, what `ask` throws
   */
  async shown(
    upstream: string,
    { username, password }: BasicCredentials,
    address: string,
    ask: () => Promise<AccessAnswer>,
  ): Promise<AccessAnswer> {
    return await this.#guard.show({ account: `${upstream}\n${username}`, address, password }, ask);
  }

  async #ownToken(
    own: NonNullable<LoginsDeps['own']>,
    request: TokenRequest,
    credentials: BasicCredentials,
  ): Promise<TokenAnswer> {
    if (!(await this.verify(credentials, request.address ?? '')))
      throw new CodedError('AUTH_REQUIRED', { message: WRONG });
    const account = credentials.username;
    const access = grantsFor(own.rules, account, request.upstream, request.scopes);
    return await issueToken(
      { tokens: this.#deps.tokens, nowMs: this.#deps.dateMs },
      { account, access },
      own.tokenLifeMs,
    );
  }

  async #upstreamToken(request: TokenRequest, credentials: BasicCredentials): Promise<TokenAnswer> {
    const { audit, origins } = this.#deps;
    const { username, password } = credentials;
    const { upstream, address = '' } = request;
    const facts = { event: 'login', account: shown(username), address, upstream } as const;
    const answer = await this.#guard.run<TokenAnswer | CodedError>(
      { account: `${upstream}\n${username}`, address, password },
      async () => {
        try {
          return { isRight: true, value: await origins.token(request, credentials) };
        } catch (error) {
          if (!isCoded(error, 'UPSTREAM_DENIED')) throw error;
          return { isRight: isUnjudged(error) ? undefined : false, value: error };
        }
      },
      () => audit.note({ ...facts, outcome: 'limited' }),
    );
    audit.note({ ...facts, outcome: answer instanceof CodedError ? 'failed' : 'ok' });
    if (!(answer instanceof CodedError)) return answer;
    if (isUnjudged(answer)) throw answer;
    throw new CodedError('AUTH_REQUIRED', { message: WRONG, detail: { upstream }, cause: answer });
  }
}

/** An account name for a log: whoever types a password into the wrong field types no long one. */
function shown(account: string): string {
  return account.replaceAll(/[^\x20-\x7e]/g, '?').slice(0, 128);
}
