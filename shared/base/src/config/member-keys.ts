import { z } from 'zod';
import { bytes, duration, hostPort, networks, pathText, TRUSTED_PROXIES_TEXT, zoneName } from './units.ts';

/** Form of a member's persistent id, which the ring hashes: a member under another id is another member. */
export const MEMBER_ID = /^[a-z0-9](?:[a-z0-9.-]{0,62}[a-z0-9])?$/;

/**
 * Config keys that every role has, beside its own: who it is, where its data, its key and the cluster document lie, its admin
 * address, zone and log.
 */
export const COMMON_KEYS = {
  id: z
    .string()
    .regex(MEMBER_ID, 'is not an id: lower-case letters, digits, dots, dashes, at most 64')
    .optional()
    .describe(
      'Id of this member, for good: at origins, trackers and proxies that of the cluster document, and required; an agent without one draws it at its first start.',
    ),
  data: pathText().describe('Data folder, relative to this file; proxies keep nothing in it.'),
  'cluster-key-file': pathText().describe('File of 64 hex characters that every member shares.'),
  'cluster-document': pathText().describe('File with the members, upstreams and policies of the cluster.'),
  'old-signatures': z
    .boolean()
    .default(false)
    .describe('Also makes and takes signatures of the former version: only while members of both run.'),
  'admin-listen': hostPort().describe('Address of /livez, /readyz, /metrics, /debug.'),
  zone: zoneName()
    .optional()
    .describe('Zone of this node: agents and origins prefer peers of the same one; others take no notice.'),
  log: z
    .strictObject({
      level: z
        .enum(['trace', 'debug', 'info', 'warn', 'error', 'silent'])
        .default('info')
        .describe('Least severe level that is logged.'),
    })
    .prefault({})
    .describe('Logging.'),
} as const;

/**
 * Config keys of every registry endpoint, be it of a proxy or of an agent: its certificate, the upstream of requests that name
 * none, whose word it takes for addresses.
 */
export const LISTENER_KEYS = {
  tls: z
    .strictObject({
      'certificate-file': pathText().describe(
        'PEM file of its certificate and those between it and the root, relative to this file; read again when it changes.',
      ),
      'key-file': pathText().describe('PEM file of the key of that certificate.'),
    })
    .optional()
    .describe('Clients ask by HTTPS, and plain HTTP is refused them; default: plain HTTP.'),
  'default-upstream': z
    .string()
    .optional()
    .describe('Upstream of requests that name none; default: the first of the cluster.'),
  'trusted-proxies': networks().describe(TRUSTED_PROXIES_TEXT),
} as const;

/** Keys of the roles that keep blobs. */
export const CACHE_KEYS = z
  .strictObject({
    budget: bytes({ least: '64KiB' }).prefault('50GiB').describe('Bytes of blobs kept on disk.'),
    high: z.number().min(0.1).max(1).default(0.95).describe('Share of the budget at which eviction begins.'),
    low: z.number().min(0.05).max(1).default(0.85).describe('Share of the budget at which eviction ends.'),
  })
  .refine((cache) => cache.low < cache.high, { message: 'low must be below high', path: ['low'] })
  .prefault({});

/** Keys of the roles that keep blobs: how they look for damage on their disk. */
export const SCRUB_KEYS = z
  .strictObject({
    rate: bytes({ least: '1KiB', orZero: true })
      .prefault('1MiB')
      .describe('Bytes a second that are read again and checked; 0 turns it off.'),
    every: duration({ least: '1s', most: '366d' })
      .prefault('7d')
      .describe(
        'From the beginning of a pass over all blobs to that of the next; a slower pass is finished first.',
      ),
  })
  .prefault({});
