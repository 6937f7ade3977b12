import { hkdfSync, randomUUID } from 'node:crypto';
import { throwIfBug } from '@sepia/base/failure';
import { peekClaims } from './authorization.ts';

/** Loaded for the first token: many clusters have none. */
let loading: Promise<typeof import('jose')> | undefined;
async function jose(): Promise<typeof import('jose')> {
  loading ??= import('jose');
  return await loading;
}

const ISSUER = 'sepia';
/** Clocks of members may differ by this, in seconds. */
const SKEW_SECONDS = 30;

/** What a token allows in one repository of one upstream. */
export interface Grant {
  readonly upstream: string;
  /** As in the token specification. */
  readonly type: 'repository';
  readonly name: string;
  readonly actions: readonly string[];
}

/** Who a token speaks for. `account` undefined: nobody logged in. */
export interface TokenHolder {
  readonly account: string | undefined;
  readonly access: readonly Grant[];
}

/**
 * Tokens of the cluster: JWTs (HS256) under a key that is derived from the cluster key, so that every member verifies
 * what any proxy issued. `access` names the upstream beside the repository: a token for one opens nothing at another.
 */
export class AccessTokens {
  readonly #key: Uint8Array;
  readonly #nowMs: () => number;

  constructor(deps: { readonly clusterKey: Uint8Array; readonly nowMs: () => number }) {
    this.#key = new Uint8Array(hkdfSync('sha256', deps.clusterKey, '', 'sepia-access-token-1', 32));
    this.#nowMs = deps.nowMs;
  }

  /** A token that is valid from now on for `lifeMs`. */
  async issue(holder: TokenHolder, service: string, lifeMs: number): Promise<string> {
    const { SignJWT } = await jose();
    const nowSeconds = Math.floor(this.#nowMs() / 1000);
    return await new SignJWT({ access: holder.access })
      .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
      .setIssuer(ISSUER)
      .setAudience(service)
      .setSubject(holder.account ?? '')
      .setIssuedAt(nowSeconds)
      .setExpirationTime(nowSeconds + Math.floor(lifeMs / 1000))
      .setJti(randomUUID())
      .sign(this.#key);
  }

  /** Whom a token speaks for; undefined if it is expired, forged, or of another cluster. */
  async verify(token: string): Promise<TokenHolder | undefined> {
    const { jwtVerify } = await jose();
    try {
      const { payload } = await jwtVerify(token, this.#key, {
        algorithms: ['HS256'],
        issuer: ISSUER,
        requiredClaims: ['exp', 'iat', 'sub'],
        clockTolerance: SKEW_SECONDS,
        currentDate: new Date(this.#nowMs()),
      });
      const account = payload.sub === '' ? undefined : payload.sub;
      return { account, access: grantsOf(payload['access']) };
    } catch (error) {
      throwIfBug(error);
      return undefined;
    }
  }

  /** True for what claims to be a token of ours, valid or not: such a token never leaves the cluster. */
  static isOwn(token: string): boolean {
    return peekClaims(token)?.['iss'] === ISSUER;
  }
}

function grantsOf(value: unknown): Grant[] {
  if (!Array.isArray(value)) return [];
  return value.filter((one): one is Grant => {
    const { upstream, type, name, actions } = (one ?? {}) as Record<string, unknown>;
    return (
      typeof upstream === 'string' &&
      type === 'repository' &&
      typeof name === 'string' &&
      Array.isArray(actions)
    );
  });
}
