import type { CodedError } from '@sepia/base/errors';
import { LatestMap } from '@sepia/base/latest-map';
import { type BearerChallenge, bearerOf, parseChallenges } from '@sepia/oci/www-authenticate';
import { basic } from './credentials/basic.ts';
import type { CredentialSource, Credentials } from './credentials/source.ts';
import type { TokenCache } from './token.ts';

/** How the upstream wants to be asked, as its challenges told. */
export type UpstreamChallenge =
  | ({ readonly scheme: 'bearer' } & BearerChallenge)
  | { readonly scheme: 'basic' };

/** Decides the `Authorization` of requests to one upstream in one name, nobody's included. Scopes are as token requests write them. */
export interface Authorizer {
  /** It has a password to show, once it is asked for one. */
  readonly isSomebody: boolean;
  /** Header for a request of `scope`, or undefined for none. */
  header(scope: string, signal: AbortSignal): Promise<string | undefined>;
  /** The header to try once more after a 401, or undefined where nothing new could help. `isOfBase`: of `/v2/`, whose scope is another. */
  afterRefusal(
    scope: string,
    sent: string | undefined,
    wwwAuthenticate: string | readonly string[] | undefined,
    signal: AbortSignal,
    isOfBase?: boolean,
  ): Promise<string | undefined>;
  /** The header that was `sent` was refused: the next request must bring another one. `unknown`: by a 404, or a 400. */
  refused(scope: string, sent: string | undefined, unknown?: boolean): void;
  /** What the upstream asked for when it refused, as far as it told. */
  challenge(scope: string): UpstreamChallenge | undefined;
  /** Forgets what was learned of the scheme: nothing helped, or who gave the tokens is gone. */
  reset(): void;
}

const MAX_OTHER_SCOPES = 1024;

interface AuthenticatorDeps {
  readonly credentials: CredentialSource | undefined;
  readonly tokens: TokenCache;
  /** Why a realm must not be asked (a plain http one of an https upstream), or undefined. */
  readonly objection: (realm: string) => CodedError | undefined;
}

/** How the upstream wants to be asked, as far as its challenges told. */
type Scheme =
  | { readonly type: 'none' }
  | { readonly type: 'basic' }
  | { readonly type: 'bearer'; readonly challenge: BearerChallenge };

/**
 * Decides the `Authorization` of requests to the upstream's own host. It starts anonymous, learns scheme and
 * realm from the first 401, and from then on brings the right header at once. A 401 after a token means a new
 * token, once, whatever the new challenge says: Harbor answers a refused token with a Basic challenge.
 */
export class Authenticator implements Authorizer {
  readonly #deps: AuthenticatorDeps;
  #scheme: Scheme = { type: 'none' };
  /** The last scheme that was told, also where it did not help. */
  #told: Scheme = { type: 'none' };
  /** Scopes that the upstream names otherwise than we do, by ours; the oldest goes first. */
  readonly #otherScopes = new LatestMap<string, string>(MAX_OTHER_SCOPES);
  #sentLast: Credentials | undefined;

  constructor(deps: AuthenticatorDeps) {
    this.#deps = deps;
  }

  get isSomebody(): boolean {
    return this.#deps.credentials !== undefined;
  }

  async header(scope: string, signal: AbortSignal): Promise<string | undefined> {
    const { credentials, tokens } = this.#deps;
    if (this.#scheme.type === 'bearer')
      return `Bearer ${await tokens.get(this.#scheme.challenge, this.#asked(scope), signal)}`;
    if (this.#scheme.type !== 'basic') return undefined;
    this.#sentLast = await credentials?.current();
    const isPassword = this.#sentLast !== undefined && this.#sentLast.isIdentityToken !== true;
    return isPassword ? basic(this.#sentLast!) : undefined;
  }

  async afterRefusal(
    scope: string,
    sent: string | undefined,
    wwwAuthenticate: string | readonly string[] | undefined,
    signal: AbortSignal,
    isOfBase = false,
  ): Promise<string | undefined> {
    const challenges = parseChallenges(wwwAuthenticate);
    const bearer = bearerOf(challenges);
    const objection = bearer === undefined ? undefined : this.#deps.objection(bearer.realm);
    const takesBasic = challenges.some(({ scheme }) => scheme === 'basic');
    this.refused(scope, sent);
    if (bearer !== undefined && objection === undefined) this.#scheme = { type: 'bearer', challenge: bearer };
    else if (this.#scheme.type !== 'bearer' && takesBasic) this.#scheme = { type: 'basic' };
    else if (objection !== undefined) throw objection;
    this.#told = this.#scheme;
    if (!isOfBase && bearer?.scope !== undefined && bearer.scope !== this.#asked(scope))
      this.#learnScope(scope, bearer.scope);
    const fresh = await this.header(scope, signal);
    return fresh === sent ? undefined : fresh;
  }

  refused(scope: string, sent: string | undefined, unknown = false): void {
    const { credentials, tokens } = this.#deps;
    if (this.#scheme.type === 'bearer' && sent?.startsWith('Bearer ') === true) {
      const { challenge } = this.#scheme;
      if (unknown) tokens.dropOld(challenge, this.#asked(scope));
      else tokens.drop(challenge, this.#asked(scope), sent.slice('Bearer '.length));
    }
    if (!unknown && sent !== undefined && this.#sentLast !== undefined && sent === basic(this.#sentLast))
      credentials?.refused(this.#sentLast);
  }

  challenge(scope: string): UpstreamChallenge | undefined {
    if (this.#told.type === 'bearer')
      return { scheme: 'bearer', ...this.#told.challenge, scope: this.#asked(scope) };
    return this.#told.type === 'basic' ? { scheme: 'basic' } : undefined;
  }

  /** The upstream may want another scheme by now. */
  reset(): void {
    this.#scheme = { type: 'none' };
  }

  #asked(scope: string): string {
    return this.#otherScopes.get(scope) ?? scope;
  }

  #learnScope(scope: string, asked: string): void {
    this.#otherScopes.set(scope, asked);
  }
}

/** A token that somebody brought: sent as it is, never renewed. */
export class GivenToken implements Authorizer {
  readonly isSomebody = false;
  readonly #header: string;
  #refused: UpstreamChallenge | undefined;

  constructor(token: string) {
    this.#header = `Bearer ${token}`;
  }

  header(): Promise<string> {
    return Promise.resolve(this.#header);
  }

  afterRefusal(
    _scope: string,
    _sent: string | undefined,
    wwwAuthenticate: string | readonly string[] | undefined,
  ): Promise<undefined> {
    const bearer = bearerOf(parseChallenges(wwwAuthenticate));
    this.#refused = bearer === undefined ? undefined : { scheme: 'bearer', ...bearer };
    return Promise.resolve(undefined);
  }

  refused(): void {
    // Nothing of it is kept here.
  }

  challenge(): UpstreamChallenge | undefined {
    return this.#refused;
  }

  reset(): void {
    this.#refused = undefined;
  }
}
