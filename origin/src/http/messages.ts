import { hostPort } from '@sepia/base/config/units';
import type { Digest } from '@sepia/base/digest';
import { tryParse } from '@sepia/base/failure';
import { DIGEST } from '@sepia/base/names/digest-schema';
import { isTag, type Tag } from '@sepia/base/names/repository';
import { fits } from '@sepia/cluster/message';
import { z } from 'zod';
import type { Wanted } from '../records/core/quota.ts';
import { BATCH_RECORDS, MAX_RECORDS } from '../records/own-records.ts';

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

/** Values of the record sets, by the name of their set. What a later version says in them is kept (ADR 12). */
const RECORD_VALUES = {
  links: z.looseObject({
    sizeBytes: z.number().int().nonnegative().optional(),
    mediaType: z.string().max(255).optional(),
    pushed: z.boolean().optional(),
  }),
  referrers: z.looseObject({
    mediaType: z.string().max(255),
    sizeBytes: z.number().int().nonnegative(),
    artifactType: z.string().max(255).optional(),
    annotations: z.record(z.string(), z.string()).optional(),
  }),
  public: z.looseObject({ checkedAtMs: z.number().int().nonnegative() }),
} as const;

export type RecordSetName = keyof typeof RECORD_VALUES;

export function isRecordSetName(name: string): name is RecordSetName {
  return Object.hasOwn(RECORD_VALUES, name);
}

/** Key of a record behind (upstream, repository), or the beginning of one. */
export const RECORD_KEY = z.array(DIGEST).max(2);

/** Body of `PUT /v1/records/<set>`. A record without value is a tombstone. */
export function recordsBody(name: RecordSetName) {
  return z.object({
    records: z
      .array(
        z.object({
          key: RECORD_KEY.min(1),
          atMs: z.number().int().nonnegative(),
          value: RECORD_VALUES[name].optional(),
        }),
      )
      .max(MAX_RECORDS),
  });
}

const RIDING_LINKS = z.object({
  atMs: z.number().int().nonnegative(),
  links: z
    .array(RECORD_VALUES.links.extend({ digest: DIGEST }))
    .min(1)
    .max(BATCH_RECORDS),
});

/** `Sepia-Links` of a copy; undefined where there is none. @throws {CodedError} `REQUEST_INVALID` */
export function ridingLinks(text: string) {
  if (text === '') return undefined;
  const read = tryParse(() => JSON.parse(text) as unknown);
  return fits(RIDING_LINKS, 'sepia-links')(read.ok ? read.value : undefined);
}

/** Body of `POST /v1/records/<set>/read`. */
export const KEYS_BODY = z.object({ keys: z.array(RECORD_KEY.min(1)).max(BATCH_RECORDS) });

const PURGE_BODY = z
  .object({
    digest: DIGEST.optional(),
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
  return fits(PURGE_BODY)(value) as { digest?: Digest; tag?: Tag };
}

const WANTED_BODY = z.object({
  id: z.string().min(1).max(300),
  sizeBytes: z.number().int().nonnegative().optional(),
  digest: DIGEST.optional(),
  tag: z.string().max(128).optional(),
});

/** Body of `POST /v1/usage/hold`. @throws {CodedError} `REQUEST_INVALID` */
export function parseWanted(value: unknown): Wanted {
  return fits(WANTED_BODY)(value);
}
