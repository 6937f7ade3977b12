import { MEMBER_ID } from '@sepia/shared/config/member-keys';
import { hostPort } from '@sepia/shared/config/units';
import { type Digest, isDigest } from '@sepia/shared/digest';
import { CodedError } from '@sepia/shared/errors';
import { isTag, type Tag } from '@sepia/shared/names/repository';
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

const PURGE_BODY = z
  .object({
    digest: z
      .string()
      .refine((text) => isDigest(text), { message: 'is not a digest' })
      .optional(),
    tag: z
      .string()
      .refine((text) => isTag(text), { message: 'is not a tag' })
      .optional(),
  })
  .refine(({ digest, tag }) => digest !== undefined || tag !== undefined, {
    message: 'names neither digest nor tag',
  });

/** Body of `POST /v1/purge`. @throws {CodedError} `REQUEST_INVALID` */
export function parsePurge(value: unknown): { digest?: Digest; tag?: Tag } {
  const checked = PURGE_BODY.safeParse(value);
  if (checked.success) return checked.data as { digest?: Digest; tag?: Tag };
  const [issue] = checked.error.issues;
  throw new CodedError('REQUEST_INVALID', { message: `${issue?.path.join('.')}: ${issue?.message}` });
}
