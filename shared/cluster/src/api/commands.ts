import { DIGEST } from '@sepia/base/names/digest-schema';
import { z } from 'zod';

/** Longest life of a command at a tracker, in ms: a node that is away for longer must be told anew. */
const MAX_COMMAND_LIFE_MS = 24 * 3_600_000;
/** Most blobs that one prefetch names beside its manifest. */
const MAX_DIGESTS = 10_000;
/** Most nodes that one command is meant for by name. */
const MAX_NODES = 10_000;

const COMMAND_ID = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'is not a command id');
const REPOSITORY = { upstream: z.string().min(1).max(64), repository: z.string().min(1).max(255) };

/**
 * Detail of `prefetch`: a manifest with all that it names, single blobs, or both. `platforms`: which children of an
 * index a node takes, those of its own platform (all, if the index has none for it) or all.
 */
const PREFETCH_DETAIL = z
  .object({
    ...REPOSITORY,
    manifest: DIGEST.optional(),
    digests: z.array(DIGEST).max(MAX_DIGESTS).optional(),
    platforms: z.enum(['own', 'all']).default('own'),
  })
  .refine((one) => one.manifest !== undefined || (one.digests?.length ?? 0) > 0, {
    message: 'names neither manifest nor digests',
  });
/** What nodes are to have before anybody asks, see `PREFETCH_DETAIL`. */
export type PrefetchDetail = z.output<typeof PREFETCH_DETAIL>;

/** Detail of `purge`: one manifest or blob, one tag, or with neither the whole repository. */
const PURGE_DETAIL = z.object({
  ...REPOSITORY,
  digest: DIGEST.optional(),
  tag: z.string().min(1).max(128).optional(),
});
/** What nodes are to drop, see `PURGE_DETAIL`. */
export type PurgeDetail = z.output<typeof PURGE_DETAIL>;

/** Kinds that this version only carries: an agent that cannot do one says so. */
const OPEN_DETAIL = z.record(z.string(), z.unknown());

const KIND = z.discriminatedUnion('type', [
  z.object({ type: z.literal('prefetch'), detail: PREFETCH_DETAIL }),
  z.object({ type: z.literal('purge'), detail: PURGE_DETAIL }),
  z.object({ type: z.literal('limits'), detail: OPEN_DETAIL }),
  z.object({ type: z.literal('drain'), detail: OPEN_DETAIL }),
  z.object({ type: z.literal('ban'), detail: OPEN_DETAIL }),
]);

/** Body of `POST /v1/commands` at a tracker. `nodes`: only these; without it every node that has or gets a lease. */
export const COMMAND_REQUEST = z.intersection(
  z.object({
    id: COMMAND_ID,
    ttlMs: z.number().int().min(1_000).max(MAX_COMMAND_LIFE_MS),
    nodes: z.array(z.string().min(1).max(128)).max(MAX_NODES).optional(),
  }),
  KIND,
);
export type CommandRequest = z.output<typeof COMMAND_REQUEST>;

/** A command as a node gets it in the answer to its heartbeat; the only way *to* a node. Idempotent by id. */
const NODE_COMMAND = z.intersection(
  z.object({ id: COMMAND_ID, expiresInMs: z.number().int().min(0).max(MAX_COMMAND_LIFE_MS) }),
  KIND,
);
/** A command as its node gets it, see `NODE_COMMAND`. */
export type NodeCommand = z.output<typeof NODE_COMMAND>;

/** What a node says of a command in its lease. */
export const COMMAND_REPORT = z.object({
  id: COMMAND_ID,
  state: z.enum(['running', 'done', 'failed']),
  /** Why it failed, in words for people. */
  error: z.string().max(500).optional(),
  doneBytes: z.number().int().nonnegative().optional(),
  totalBytes: z.number().int().nonnegative().optional(),
});
/** How far a node is with a command, as it says in its lease, see {@link COMMAND_REPORT}. */
export type CommandReport = z.output<typeof COMMAND_REPORT>;

/** One node in the answer of `GET /v1/commands/<id>`. `pending`: not told yet, or not reported. */
export interface NodeCommandState {
  readonly nodeId: string;
  readonly state: 'pending' | CommandReport['state'];
  /** False when its lease has run out: it may not come back. */
  readonly leased: boolean;
  readonly address?: string | undefined;
  readonly error?: string | undefined;
  readonly doneBytes?: number | undefined;
  readonly totalBytes?: number | undefined;
}

/** Answer of `GET /v1/commands/<id>`: how far each node is with it, as the answering tracker knows. */
export interface CommandState {
  readonly id: string;
  readonly type: CommandRequest['type'];
  readonly expiresInMs: number;
  readonly nodes: readonly NodeCommandState[];
}
