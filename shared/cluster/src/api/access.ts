import { z } from 'zod';

/** How a client is asked to prove itself, as the upstream said; the realm is never the upstream's. */
export type AccessChallenge =
  | { readonly scheme: 'bearer'; readonly service?: string | undefined; readonly scope?: string | undefined }
  | { readonly scheme: 'basic' };

/** Answer of an origin's `GET /v1/access`: may whoever sent this read that repository of that upstream? */
export type AccessAnswer =
  /** Everybody may. */
  | { readonly verdict: 'public'; readonly ttlMs: number }
  /** Who sent these credentials may. */
  | { readonly verdict: 'granted'; readonly ttlMs: number }
  /** Not without (other) credentials. */
  | { readonly verdict: 'challenge'; readonly challenge: AccessChallenge }
  /** The credentials are right and not enough, or the upstream's policy forbids it. */
  | { readonly verdict: 'denied'; readonly message: string };

/** What the check may look at: something that the client is about to read. */
export type AccessItem =
  | { readonly kind: 'manifest'; readonly reference: string }
  | { readonly kind: 'blob'; readonly digest: string }
  | { readonly kind: 'repository' };

/** Body of `POST /v1/token` at a proxy (from agents) and at an origin (from both). */
export const TOKEN_REQUEST = z.object({
  upstream: z.string().max(64),
  /** `repository:NAME:ACTIONS` with the upstream's own names, or what else the client asked for. */
  scopes: z.array(z.string().max(1100)).max(64),
  /** Address of the client, for limits and the audit log. */
  address: z.string().max(256).default(''),
});
/** What a member asks a token for, in a client's name, see {@link TOKEN_REQUEST}. */
export type TokenRequest = z.input<typeof TOKEN_REQUEST>;

/** Answer of `/token`, in the form of the distribution token specification; the token is a secret. */
export interface TokenAnswer {
  readonly token: string;
  readonly expires_in: number;
  /** RFC 3339; clients that miss it fetch a token per request. */
  readonly issued_at: string;
}
