import { type BearerChallenge, bearerOf, parseChallenges } from './challenge.ts';
import { basic, type Credentials, type TokenCache } from './token.ts';

const MAX_OTHER_SCOPES = 1024;

interface AuthenticatorDeps {
  readonly credentials: Credentials | undefined;
  readonly tokens: TokenCache;
  /** False for a realm that must not be asked (a plain http one of an https upstream). */
  readonly mayAsk: (realm: string) => boolean;
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
export class Authenticator {
  readonly #deps: AuthenticatorDeps;
  #scheme: Scheme = { type: 'none' };
  /** Scopes that the upstream names otherwise than we do, by ours; the oldest goes first. */
  readonly #otherScopes = new Map<string, string>();

  constructor(deps: AuthenticatorDeps) {
    this.#deps = deps;
  }

  /** Header for a request of `scope`, or undefined for none. */
  async header(scope: string, signal: AbortSignal): Promise<string | undefined> {
    const { credentials, tokens } = this.#deps;
    if (this.#scheme.type === 'bearer')
      return `Bearer ${await tokens.get(this.#scheme.challenge, this.#asked(scope), signal)}`;
    return this.#scheme.type === 'basic' && credentials !== undefined ? basic(credentials) : undefined;
  }

  /**
   * Learns from a 401. Returns the header to try once more, or undefined where nothing new could help.
   * `sent`: the header of the refused request.
   */
  async afterRefusal(
    scope: string,
    sent: string | undefined,
    wwwAuthenticate: string | readonly string[] | undefined,
    signal: AbortSignal,
  ): Promise<string | undefined> {
    const challenges = parseChallenges(wwwAuthenticate);
    const bearer = bearerOf(challenges);
    if (bearer !== undefined && this.#deps.mayAsk(bearer.realm))
      this.#scheme = { type: 'bearer', challenge: bearer };
    else if (this.#scheme.type !== 'bearer' && challenges.some(({ scheme }) => scheme === 'basic'))
      this.#scheme = { type: 'basic' };
    if (sent?.startsWith('Bearer ') === true)
      this.#deps.tokens.drop(this.#asked(scope), sent.slice('Bearer '.length));
    if (bearer?.scope !== undefined && bearer.scope !== this.#asked(scope))
      this.#learnScope(scope, bearer.scope);
    const fresh = await this.header(scope, signal);
    return fresh === sent ? undefined : fresh;
  }

  /** Forgets the scheme after a refusal that nothing helped against: the upstream may want another one by now. */
  reset(): void {
    this.#scheme = { type: 'none' };
  }

  #asked(scope: string): string {
    return this.#otherScopes.get(scope) ?? scope;
  }

  #learnScope(scope: string, asked: string): void {
    this.#otherScopes.delete(scope);
    this.#otherScopes.set(scope, asked);
    if (this.#otherScopes.size > MAX_OTHER_SCOPES)
      this.#otherScopes.delete(this.#otherScopes.keys().next().value!);
  }
}
