import { MEMBER_ID } from '@sepia/shared/config/member-keys';
import { hostPort } from '@sepia/shared/config/units';
import { type Digest, isDigest } from '@sepia/shared/digest';
import { z } from 'zod';
import { MAX_LINKS } from '../net/links.ts';

/** `peers` of adopt. */
export const PEER_ENTRIES = z
  .array(
    z.object({
      peerId: z.string().regex(/^[0-9a-f]{40}$/),
      nodeId: z.string().min(1).max(128),
      addresses: z.array(hostPort()).max(16),
      origin: z.boolean(),
      zone: z.string().max(64).optional(),
    }),
  )
  .max(1_000);

const LINK_ENTRY = z.object({
  upstream: z.string().regex(MEMBER_ID),
  repository: z.string().min(1).max(255),
  digest: z.string().refine((text): text is Digest => isDigest(text), { message: 'is not a digest' }),
  sizeBytes: z.number().int().nonnegative().optional(),
  mediaType: z.string().max(255).optional(),
});

/** Body of `PUT /v1/links`. */
export const LINKS_BODY = z.object({ links: z.array(LINK_ENTRY).max(MAX_LINKS) });
