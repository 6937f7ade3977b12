import { createHash } from 'node:crypto';
import { type Digest, parseDigest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { BUILD_DEFAULTS, type BuildOptions, buildEstargz } from '../estargz/build.ts';
import { TOC_DIGEST_ANNOTATION, UNCOMPRESSED_SIZE_ANNOTATION } from '../estargz/toc.ts';
import type { Packer } from '../pack/batch.ts';
import { LayerReader } from './read-layer.ts';
import type { MakeScratch, Scratch } from './scratch.ts';

/** What layers are converted to. */
export const FORMATS = ['estargz'] as const;
export type ConvertFormat = (typeof FORMATS)[number];

/** Everything that decides the bytes of a converted layer, beside the layer. */
export interface LayerOptions extends BuildOptions {
  readonly format: ConvertFormat;
}

export const LAYER_DEFAULTS: LayerOptions = { ...BUILD_DEFAULTS, format: 'estargz' };

/** Raised when the same input and options would give other bytes: records of another version are not used. */
const CONVERTER_VERSION = 1;
const OCI_GZIP = 'application/vnd.oci.image.layer.v1.tar+gzip';

/** What is remembered of a converted layer: enough to build the manifest again without its bytes. */
export type LayerRecord =
  | {
      readonly kind: 'converted';
      readonly mediaType: string;
      readonly digest: Digest;
      readonly sizeBytes: number;
      readonly diffId: Digest;
      readonly annotations: Readonly<Record<string, string>>;
      readonly uncompressedBytes: number;
      /** Prioritized files that this layer does not have. */
      readonly missing: readonly string[];
      /** A gzip member with the TOC, base64, where the layer does not hold it. */
      readonly externalToc?: string;
    }
  /** The layer stays as it is. */
  | { readonly kind: 'kept'; readonly reason: string; readonly missing: readonly string[] };

/** Names a layer and all that decides its conversion: the same key, the same record. */
export function layerKey(layer: Digest, options: LayerOptions): string {
  const named = Object.entries(options).sort(([one], [other]) => (one < other ? -1 : 1));
  return createHash('sha256')
    .update(JSON.stringify([CONVERTER_VERSION, layer, named]))
    .digest('hex');
}

/** Where one layer stands. */
export type LayerPhase = 'pull' | 'convert' | 'push';

interface Job {
  /** Calls `take` with the layer's compressed bytes in order, and checks size and digest. */
  readonly pull: (
    take: (chunk: Uint8Array) => Promise<void>,
    signal: AbortSignal | undefined,
  ) => Promise<void>;
  /** What the config says of the layer. */
  readonly diffId: Digest;
  readonly scratch: MakeScratch;
  readonly packer: Packer;
  readonly onProgress: (phase: LayerPhase, doneBytes: number, ofBytes: number) => void;
  readonly signal?: AbortSignal | undefined;
}

/** A converted layer and its bytes. */
export interface ConvertedLayer {
  readonly record: LayerRecord;
  /** The new blob; gone when the layer was kept. Dispose it when it was sent. */
  readonly blob: Scratch | undefined;
}

/**
 * Pulls one layer to disk, checks its DiffID, and converts it on disk.
 * @throws {CodedError} what the pull throws, `LAYER_INVALID`, `DIGEST_MISMATCH` where the config lies
 */
export async function convertLayer(job: Job, options: LayerOptions): Promise<ConvertedLayer> {
  await using tar = await job.scratch();
  const reader = new LayerReader(tar, options.maxBytes);
  let layer: Awaited<ReturnType<LayerReader['end']>>;
  try {
    await pullInto(job, reader);
    layer = await reader.end();
  } catch (error) {
    if (!isCoded(error, 'LAYER_NOT_LAZY')) throw error;
    return { record: { kind: 'kept', reason: error.message, missing: options.prioritized }, blob: undefined };
  } finally {
    reader.destroy();
  }
  if (layer.diffId !== job.diffId)
    throw new CodedError('DIGEST_MISMATCH', {
      message: 'the uncompressed layer does not match its diff_id in the config of the image',
      detail: { expected: job.diffId, found: layer.diffId },
    });
  const blob = await job.scratch();
  try {
    const deps = {
      source: tar,
      packer: job.packer,
      take: (bytes: Uint8Array) => blob.append(bytes),
      progress: (done: number) => job.onProgress('convert', done, Math.max(done, layer.sizeBytes)),
      signal: job.signal,
    };
    const built = await buildEstargz(deps, layer.entries, options);
    if ('unfit' in built) {
      await blob[Symbol.asyncDispose]();
      return { record: { kind: 'kept', reason: built.unfit, missing: options.prioritized }, blob: undefined };
    }
    const record: LayerRecord = {
      kind: 'converted',
      mediaType: OCI_GZIP,
      digest: parseDigest(built.digest),
      sizeBytes: built.sizeBytes,
      diffId: parseDigest(built.diffId),
      annotations: {
        [TOC_DIGEST_ANNOTATION]: built.tocDigest,
        [UNCOMPRESSED_SIZE_ANNOTATION]: String(built.uncompressedBytes),
      },
      uncompressedBytes: built.uncompressedBytes,
      missing: built.missing,
      ...(built.externalToc === undefined
        ? {}
        : { externalToc: Buffer.from(built.externalToc).toString('base64') }),
    };
    return { record, blob };
  } catch (error) {
    await blob[Symbol.asyncDispose]();
    throw error;
  }
}

/**
 * A pull goes on after a cut connection, but not after our own failure: that one ends it, through the signal, and is
 * what is thrown.
 */
async function pullInto(job: Job, reader: LayerReader): Promise<void> {
  const stop = new AbortController();
  const signal = job.signal === undefined ? stop.signal : AbortSignal.any([job.signal, stop.signal]);
  try {
    await job.pull(async (chunk) => {
      try {
        await reader.push(chunk);
      } catch (error) {
        stop.abort(error);
        throw error;
      }
    }, signal);
  } catch (error) {
    throw stop.signal.aborted ? stop.signal.reason : error;
  }
}
