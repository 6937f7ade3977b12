import type { Digest } from '@sepia/base/digest';
import { DIGEST } from '@sepia/base/names/digest-schema';
import { z } from 'zod';

/** Most links in one message that tells of links that are gone; more go in several messages. */
export const MAX_REVOCATIONS = 1_000;

const REVOCATION = z.object({
  upstream: z.string().min(1).max(64),
  repository: z.string().min(1).max(255),
  digest: DIGEST,
});

/** A link that is no more: whatever a member remembers of this digest under this repository is forgotten. */
export interface Revocation {
  readonly upstream: string;
  readonly repository: string;
  readonly digest: Digest;
}

/** Body of `POST /v1/revocations`, at origins, proxies and trackers. Idempotent. */
export const REVOCATIONS_BODY = z.object({ revoked: z.array(REVOCATION).max(MAX_REVOCATIONS) });
