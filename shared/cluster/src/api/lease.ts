import { hostPort } from '@sepia/base/config/units';
import { z } from 'zod';
import { COMMAND_REPORT, type NodeCommand } from './commands.ts';
import type { OpenToStrangers } from './join.ts';
import type { Revocation } from './revocation.ts';

/** Most recent seeds that a node names in its lease. */
export const MAX_LEASE_SEEDS = 256;

/** Most commands in one lease, and in one answer to it. */
export const MAX_LEASE_COMMANDS = 64;

/** Longest lease, in ms. */
export const MAX_LEASE_MS = 600_000;
/** A node's lease lasts as long as this many of its heartbeats: for nodes that ask for one, and for trackers that set both. */
export const LEASE_HEARTBEATS = 2.5;

/** Body of `PUT /v1/nodes/<id>`: a node's lease, renewed by each heartbeat. Digests go to their tracker and the next in order. */
export const LEASE_REQUEST = z.object({
  bootId: z.string().min(1).max(64),
  seq: z.number().int().nonnegative(),
  addresses: z.array(hostPort()).max(16),
  zone: z.string().max(64).optional(),
  /** The node wants to last this long at least: a tracker with many nodes makes it longer. */
  ttlMs: z.number().int().min(1_000).max(MAX_LEASE_MS),
  add: z.array(z.string()).max(MAX_LEASE_SEEDS),
  drop: z.array(z.string()).max(4096),
  leeching: z.array(z.string()).max(4096),
  /** XOR of the first 8 bytes of SHA-256 of each advertised digest, 16 hex: a difference asks for the full set. */
  setHash: z.string().regex(/^[0-9a-f]{16}$/),
  /** `revokedCursor` of this tracker's last answer. */
  revokedAfter: z.string().max(128).optional(),
  /** What the node says of itself, for people who look. */
  self: z
    .object({
      /** Of the protocol. */
      version: z.number().int().nonnegative(),
      uptimeSeconds: z.number().nonnegative(),
      /** What its cache takes. */
      usedBytes: z.number().nonnegative(),
    })
    .optional(),
  /** Live figures of running swarms, for people who look (never for decisions). */
  swarms: z
    .array(
      z.object({
        digest: z.string().max(160),
        pieces: z.number().int(),
        have: z.string().max(40_000),
        peerBytes: z.number(),
        originBytes: z.number(),
      }),
    )
    .max(64)
    .default([]),
  /** Commands whose state this tracker has not heard yet. */
  commands: z.array(COMMAND_REPORT).max(MAX_LEASE_COMMANDS).default([]),
});
/** A heartbeat as a node sends it, see {@link LEASE_REQUEST}. */
export type LeaseRequest = z.input<typeof LEASE_REQUEST>;

/** What a tracker answers to a heartbeat: when the next is due, and all that the node is to know or do until then. */
export interface LeaseAnswer {
  /** The next heartbeat of a node with nothing to tell. */
  readonly heartbeatMs: number;
  /** That of a node with running swarms or news of commands: longer in bigger clusters. 1 s where a tracker does not say. */
  readonly watchedMs?: number;
  /** Send the full set next time. */
  readonly resync?: boolean;
  /** Address of another process that renews the lease of this id by turns, '' where it tells none. */
  readonly twin?: string;
  /** Commands that the node has not reported yet; it carries each id out once. */
  readonly commands: readonly NodeCommand[];
  /** Links that are no more: what the node keeps by them is dropped. Idempotent. */
  readonly revoked: readonly Revocation[];
  readonly revokedCursor?: string;
  readonly clusterVersion: number;
  /** Torrents of what the node has or downloads: it lets their strangers in for so long. */
  readonly strangers?: readonly OpenToStrangers[];
}
