import type Router from '@koa/router';
import { CodedError } from '@sepia/base/errors';
import { DIGEST } from '@sepia/base/names/digest-schema';
import { parseRepositoryName, parseTag } from '@sepia/base/names/repository';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { fits } from '@sepia/cluster/message';
import { serve } from '@sepia/http/router';
import { queryValue, readJson } from '@sepia/http/signed';
import { RECORD_SPACES, type RecordSpace, shardOfRecord } from '@sepia/records/core/record-space';
import { settledValue } from '@sepia/records/register/envelope';
import type { DumpedRecord } from '@sepia/records/store/record-dump';
import type { RecordStore } from '@sepia/records/store/record-store';
import { z } from 'zod';
import type { TagState } from '../records/core/tag-record.ts';
import type { Links } from '../records/links.ts';
import type { Tags } from '../records/tags.ts';
import type { OwedTags } from '../write-back/owed-tags.ts';
import { numberOf } from './request.ts';

const MAX_PAGE = 1_000;
/** Registers that are written at once. */
const AT_ONCE = 32;

const RESTORE_BODY = z.object({
  space: z.enum(RECORD_SPACES),
  entries: z.array(z.object({ key: z.string().min(1).max(4_096), stored: z.unknown() })).max(MAX_PAGE),
});
const MAX_MOVES = 1_000;
const TAG_STATE = z.object({
  digest: DIGEST.optional(),
  checkedAtMs: z.number(),
  history: z
    .array(
      z.object({
        digest: DIGEST.optional(),
        atMs: z.number(),
        how: z.enum(['push', 'revalidate', 'set', 'delete', 'purge', 'restore', 'theirs']),
        by: z.string().max(256),
      }),
    )
    .max(MAX_MOVES)
    .optional(),
  owed: z
    .object({
      sinceMs: z.number(),
      base: DIGEST.nullable().optional(),
      ours: z.array(DIGEST).max(MAX_MOVES),
      restored: z.literal(true).optional(),
    })
    .optional(),
});

interface BackupRouteDeps {
  readonly records: RecordStore;
  readonly tags: Tags;
  readonly links: Pick<Links, 'isGone'>;
  readonly owedTags: Pick<OwedTags, 'restored' | 'restoring'>;
}

/** This origin's own records page by page, and records of a backup that are put back. */
export function backupRoutes(router: Router, deps: BackupRouteDeps): void {
  serve(router, ORIGIN_RECORDS.backup, async (ctx, params) => {
    const after = queryValue(ctx, 'after');
    const key = after === undefined ? undefined : Buffer.from(after, 'base64url').toString('utf8');
    ctx.body = await deps.records.dump.page(
      spaceOf(params.space),
      key,
      numberOf(ctx, 'limit', MAX_PAGE) ?? MAX_PAGE,
    );
  });
  serve(router, ORIGIN_RECORDS.restore, async (ctx) => {
    const { space, entries } = await readJson(ctx, ORIGIN_RECORDS.restore.body.maxBytes, fits(RESTORE_BODY));
    deps.owedTags.restoring();
    if (space === 'r1')
      for (let at = 0; at < entries.length; at += AT_ONCE)
        await Promise.all(
          entries.slice(at, at + AT_ONCE).map(async (entry) => await restoreTag(deps, entry as DumpedRecord)),
        );
    else
      await Promise.all(
        entries.map(async (entry) => await deps.records.dump.take(space, entry as DumpedRecord, Date.now())),
      );
    ctx.body = { taken: entries.length };
  });
}

/**
 * By compare-and-set: what is there and later stays. A tag of a manifest that was deleted since goes with it, as one that a
 * push moves there beside the delete: a delete that comes after the look takes what it finds. What is pushed again since stays.
 */
export async function restoreTag(
  {
    tags,
    links,
    owedTags,
  }: {
    readonly tags: Pick<Tags, 'restore' | 'delete'>;
    readonly links: BackupRouteDeps['links'];
    readonly owedTags: Pick<OwedTags, 'restored'>;
  },
  { key, stored }: DumpedRecord,
): Promise<void> {
  const shard = shardOfRecord('r1', key);
  if (shard === undefined) throw new CodedError('REQUEST_INVALID', { message: 'r1: a key names no tag' });
  const state = settledValue<TagState>(key, (stored as { value?: unknown } | null)?.value);
  if (state === undefined) return;
  const backup = fits(TAG_STATE, `r1: ${shard.repository}`)(state) as TagState;
  const name = {
    upstream: shard.upstream,
    repository: parseRepositoryName(shard.repository),
    tag: parseTag(shard.rest[0]!),
  };
  await tags.restore(name, backup);
  const { digest } = backup;
  const movedMs = backup.history?.at(-1)?.atMs ?? backup.checkedAtMs;
  if (digest !== undefined && (await links.isGone({ ...name, digest }, movedMs)))
    await tags.delete(name, digest, 'delete', { seen: backup });
  if (backup.owed !== undefined) owedTags.restored(name);
}

function spaceOf(space: string): RecordSpace {
  if ((RECORD_SPACES as readonly string[]).includes(space)) return space as RecordSpace;
  throw new CodedError('REQUEST_INVALID', {
    message: `no such records; there are ${RECORD_SPACES.join(', ')}`,
  });
}
