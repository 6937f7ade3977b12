import { createHmac, timingSafeEqual } from 'node:crypto';
import type { Digest } from '@sepia/base/digest';
import { DIGEST } from '@sepia/base/names/digest-schema';
import { isRepositoryName } from '@sepia/base/names/repository';
import { z } from 'zod';

const REASON = z.string().min(1).max(1_000);

/** Larger indexes are not kept: their layers are not lazy. Members hold one in memory on its way. */
export const MAX_INDEX_BYTES = 60 * 1024 * 1024;

/** Name of a repository, as the ones in which blobs are. */
const HOME = z.object({
  upstream: z.string().min(1).max(64),
  repository: z
    .string()
    .refine((text): boolean => isRepositoryName(text), { message: 'is not a repository name' }),
});

const FACTS = {
  version: z.literal(1),
  layer: DIGEST,
  /** Digest of the layer's tar, computed from the whole blob. */
  diffId: DIGEST.optional(),
  /** Of a Nydus image: what the layer is there; left out: a tar of its own. */
  kind: z.enum(['nydus-bootstrap', 'nydus-blob']).optional(),
  /** The index, a blob of `home`; undefined: the layer is not lazy, and `reason` says why. */
  index: DIGEST.optional(),
  indexBytes: z.number().int().min(1).max(MAX_INDEX_BYTES).optional(),
  reason: REASON.optional(),
  home: HOME,
  by: z.string().min(1).max(160),
  atMs: z.number().int().min(0),
};

/** What somebody found wrong with an index. */
const FAULT = z.object({
  index: DIGEST,
  reason: REASON,
  by: z.string().max(160),
  atMs: z.number().int(),
});

const BINDING = z.object({
  ...FACTS,
  signature: z.string().regex(/^[0-9a-f]{64}$/),
  bad: FAULT.optional(),
});

/**
 * What the cluster knows of a layer after one of its members read and hashed all of it: diffID and index, or why there
 * is none. Signed with the cluster key; `bad` is not part of what is signed, it only takes away. What a later version
 * says beside these is kept (ADR 12); what it signs beside these makes the binding none here.
 */
export const LAYER_BINDING: z.ZodType<LayerBinding> = BINDING.extend({ home: HOME.loose() })
  .loose()
  .refine((one) => (one.index === undefined) === (one.indexBytes === undefined), { path: ['indexBytes'] })
  .refine((one) => (one.index === undefined) !== (one.reason === undefined), { path: ['reason'] })
  .refine((one) => one.index === undefined || one.diffId !== undefined, { path: ['diffId'] });

/**
 * Which index belongs to a layer, or why it has none: signed with the cluster key, so that a member need not
 * trust who passes it on.
 */
export type LayerBinding = z.infer<typeof BINDING>;
/** What a node found wrong with an index, and when; it stays bad until another is bound. */
export type LayerFault = z.infer<typeof FAULT>;
/** The part of a binding that keeps its index from garbage collection; read of later versions, too, whatever else they say. */
export const INDEX_HOME = z.object({ index: DIGEST, home: HOME });
/** What the signature of a binding covers. */
export type BindingFacts = Omit<LayerBinding, 'signature' | 'bad'>;

/** Bodies of `PUT` and `POST /v1/layers/…` at a proxy. */
export const LAYER_CALLS = {
  bind: z.object({ binding: LAYER_BINDING }),
  complain: z.object({ index: DIGEST, reason: REASON }),
} as const;

/** A binding with the signature by which members believe it; who has the cluster key can make one. */
export function signBinding(clusterKey: Uint8Array, facts: BindingFacts): LayerBinding {
  return { ...facts, signature: signatureOf(clusterKey, facts) };
}

/** True if a holder of the cluster key made the binding. */
export function isSignedBinding(clusterKey: Uint8Array, binding: LayerBinding): boolean {
  return timingSafeEqual(
    Buffer.from(signatureOf(clusterKey, binding), 'hex'),
    Buffer.from(binding.signature, 'hex'),
  );
}

/** HMAC-SHA-256(key, "sepia-layer-1" and each fact as JSON, in this order, a line each; the kind only where there is one). */
function signatureOf(clusterKey: Uint8Array, facts: BindingFacts): string {
  const { version, layer, diffId, index, indexBytes, reason, home, by, atMs, kind } = facts;
  const lines: unknown[] = [version, layer, diffId, index, indexBytes, reason];
  lines.push(home.upstream, home.repository, by, atMs);
  if (kind !== undefined) lines.push(kind);
  const text = ['sepia-layer-1', ...lines.map((one) => JSON.stringify(one ?? null))].join('\n');
  return createHmac('sha256', clusterKey).update(text).digest('hex');
}

/** Why a layer with this binding may not be shown under a diffID; undefined: it may. */
export function whyNotBound(binding: LayerBinding | undefined, diffId: Digest): string | undefined {
  if (binding === undefined) return 'the cluster has no index of it yet';
  if (binding.index === undefined) return binding.reason;
  if (binding.bad?.index === binding.index) return `its index is bad: ${binding.bad.reason}`;
  if (binding.diffId !== diffId) return `its diffID is ${binding.diffId}, the image says ${diffId}`;
  return undefined;
}
