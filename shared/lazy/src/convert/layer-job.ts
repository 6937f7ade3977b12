import { createHash } from 'node:crypto';
import { type Digest, parseDigest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { readElsewhere } from '@sepia/base/failure';
import { COMPRESSION_LEVELS } from '@sepia/oci/compression-levels';
import { BUILD_DEFAULTS, type BuildOptions, buildEstargz } from '../estargz/build.ts';
import { TOC_DIGEST_ANNOTATION, UNCOMPRESSED_SIZE_ANNOTATION } from '../estargz/toc.ts';
import type { EstargzResult, WriteDeps } from '../estargz/write.ts';
import type { Packer } from '../pack/batch.ts';
import type { Compressor } from '../pack/unpack.ts';
import { type BuiltRafs, buildRafs } from '../rafs/build.ts';
import { LEAST_CHUNK_BYTES, MOST_CHUNK_BYTES } from '../rafs/format.ts';
import { EntryBudget } from '../tar/entry-budget.ts';
import type { TarEntry } from '../tar/tar-entry.ts';
import { buildZstdChunked } from '../zstdchunked/build.ts';
import type { LargeClaim, LargeLayers } from './large-layers.ts';
import { NYDUS_BLOB } from './nydus-image.ts';
import { NYDUS_BLOB_ANNOTATION } from './nydus-marks.ts';
import { LayerReader, type ReadLayer } from './read-layer.ts';
import type { MakeScratch, Scratch } from './scratch.ts';
import { mostUncompressed } from './work-limits.ts';

/** Formats that layers are converted to. */
export const FORMATS = ['estargz', 'zstdchunked', 'nydus'] as const;
/** A format that layers are converted to. */
export type ConvertFormat = (typeof FORMATS)[number];

/** Everything that decides the bytes of a converted layer, beside the layer. */
export interface LayerOptions extends BuildOptions {
  readonly format: ConvertFormat;
  /** Of chunks; Nydus only, left out: zstd. */
  readonly compressor?: Compressor;
}

/** Default options of eStargz; {@link layerDefaults} has those of each format. */
export const LAYER_DEFAULTS: LayerOptions = { ...BUILD_DEFAULTS, format: 'estargz' };

/** Files are read in parts of this size; nydus-image's default. */
const NYDUS_CHUNK_BYTES = 1024 * 1024;

/** The options by which layers are converted to a format where a rule does not say. */
export function layerDefaults(format: ConvertFormat): LayerOptions {
  const level = COMPRESSION_LEVELS[format].usual;
  return format === 'nydus'
    ? { ...LAYER_DEFAULTS, format, level, chunkBytes: NYDUS_CHUNK_BYTES }
    : { ...LAYER_DEFAULTS, format, level };
}

/** Why these options do not go together; undefined if they do. The option is named as on the command line. */
export function optionsFault(
  options: Pick<
    LayerOptions,
    'format' | 'level' | 'chunkBytes' | 'externalToc' | 'minChunkBytes' | 'compressor'
  >,
): string | undefined {
  const { format, level, compressor, chunkBytes } = options;
  const { least, most } = COMPRESSION_LEVELS[compressor === 'gzip' ? 'estargz' : format];
  if (level < least || level > most)
    return `--level: ${level} is not ${least} to ${most}, the levels of ${compressor ?? format}`;
  if (compressor !== undefined && format !== 'nydus') return '--compressor: only Nydus has a choice of them';
  const isPower = Number.isInteger(Math.log2(chunkBytes));
  if (format === 'nydus' && !(isPower && chunkBytes >= LEAST_CHUNK_BYTES && chunkBytes <= MOST_CHUNK_BYTES))
    return `--chunk-size: ${chunkBytes} is no power of two from 4096 to 16777216, as Nydus has them`;
  if (format === 'estargz') return undefined;
  if (options.externalToc) return '--external-toc: only eStargz has tables of contents elsewhere';
  return options.minChunkBytes > 0 ? '--min-chunk-size: only eStargz puts chunks together' : undefined;
}

/** Raised when the same input and options would give other bytes: records of another version are not used. */
const CONVERTER_VERSION = 6;
const OCI_GZIP = 'application/vnd.oci.image.layer.v1.tar+gzip';
const OCI_ZSTD = 'application/vnd.oci.image.layer.v1.tar+zstd';

/** What a conversion made of one layer, but for its bytes. */
export interface ConvertedRecord {
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
  /** Of a Nydus layer: what the bootstrap of an image is made of. The bootstrap is a zstd frame, base64. */
  readonly nydus?: Pick<BuiltRafs, 'implied' | 'outside'> & { readonly bootstrap: string };
}

/** What is remembered of a converted layer: enough to build the manifest again without its bytes. */
export type LayerRecord =
  | ConvertedRecord
  /** The layer stays as it is. */
  | { readonly kind: 'kept'; readonly reason: string; readonly missing: readonly string[] };

/** True for what a {@link LayerRecord} looks like: for records that were kept elsewhere. */
export function isLayerRecord(value: unknown): value is LayerRecord {
  const { kind } = value as { kind?: unknown };
  return kind === 'converted' || kind === 'kept';
}

/** Names a layer and all that decides its conversion: the same key, the same record. */
export function layerKey(layer: Digest, options: LayerOptions): string {
  const named = Object.entries(options).sort(([one], [other]) => (one < other ? -1 : 1));
  return createHash('sha256')
    .update(JSON.stringify([CONVERTER_VERSION, layer, named]))
    .digest('hex');
}

/** What is being done to one layer of a conversion, for who looks on. */
export type LayerPhase = 'pull' | 'convert' | 'push';

interface Job {
  /** Calls `take` with the layer's compressed bytes in order, and checks size and digest. */
  readonly pull: (
    take: (chunk: Uint8Array) => Promise<void>,
    signal: AbortSignal | undefined,
  ) => Promise<void>;
  /** Length of what is pulled, as the manifest says it. */
  readonly sizeBytes: number;
  /** What the config says of the layer. */
  readonly diffId: Digest;
  readonly scratch: MakeScratch;
  readonly packer: Packer;
  readonly largeLayers: LargeLayers;
  readonly onProgress: (phase: LayerPhase, doneBytes: number, ofBytes: number) => void;
  /** Told of uncompressed bytes that are more than was known; throws where they are too many. */
  readonly onUnpacked: (bytes: number) => void;
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
  using claim = job.largeLayers.claim(job.signal);
  await using tar = await job.scratch();
  const maxBytes = Math.min(options.maxBytes, mostUncompressed(job.sizeBytes));
  const append = async (bytes: Uint8Array): Promise<void> => {
    job.onUnpacked(bytes.length);
    await tar.append(bytes);
  };
  let layer: ReadLayer;
  try {
    layer = await readWhilePulled(
      job,
      claim,
      (onLarge) => new LayerReader({ append }, maxBytes, new EntryBudget(), onLarge),
    );
  } catch (error) {
    if (!isCoded(error, 'LAYER_NOT_LAZY')) throw error;
    return { record: { kind: 'kept', reason: error.message, missing: options.prioritized }, blob: undefined };
  }
  if (layer.diffId !== job.diffId)
    throw new CodedError('DIGEST_MISMATCH', {
      message: 'the uncompressed layer does not match its diff_id in the config of the image',
      detail: { expected: job.diffId, found: layer.diffId },
    });
  const blob = await job.scratch();
  // Holes of sparse files are written, too.
  let known = layer.sizeBytes;
  const progress = (done: number): void => {
    job.onUnpacked(Math.max(0, done - known));
    known = Math.max(known, done);
    job.onProgress('convert', done, known);
  };
  try {
    const deps = {
      source: tar,
      packer: job.packer,
      take: (bytes: Uint8Array) => blob.append(bytes),
      ...{ progress, signal: job.signal },
    };
    const made = await build(deps, layer.entries, { ...options, maxBytes });
    if (typeof made === 'string') {
      await blob[Symbol.asyncDispose]();
      return { record: { kind: 'kept', reason: made, missing: options.prioritized }, blob: undefined };
    }
    return { record: made, blob };
  } catch (error) {
    await blob[Symbol.asyncDispose]();
    throw error;
  }
}

/** Writes the layer in its format. @returns why it stays as it is, or what is remembered of it */
async function build(
  deps: WriteDeps,
  entries: TarEntry[],
  options: LayerOptions,
): Promise<LayerRecord | string> {
  if (options.format === 'nydus') return await buildNydus(deps, entries, options);
  const isZstd = options.format === 'zstdchunked';
  const built = isZstd
    ? await buildZstdChunked(deps, entries, options)
    : await buildEstargz(deps, entries, options);
  if ('unfit' in built) return built.unfit;
  const { sizeBytes, uncompressedBytes, missing } = built;
  return {
    kind: 'converted',
    mediaType: isZstd ? OCI_ZSTD : OCI_GZIP,
    digest: parseDigest(built.digest),
    sizeBytes,
    diffId: parseDigest(built.diffId),
    annotations: 'annotations' in built ? built.annotations : estargzAnnotations(built),
    uncompressedBytes,
    missing,
    ...('externalToc' in built ? { externalToc: Buffer.from(built.externalToc).toString('base64') } : {}),
  };
}

async function buildNydus(
  deps: WriteDeps,
  entries: TarEntry[],
  options: LayerOptions,
): Promise<LayerRecord | string> {
  const built = await buildRafs(deps, entries, { ...options, compressor: options.compressor ?? 'zstd' });
  if ('unfit' in built) return built.unfit;
  const { sizeBytes, uncompressedBytes, missing, implied, outside } = built;
  const digest = parseDigest(built.digest);
  return {
    ...{
      kind: 'converted',
      mediaType: NYDUS_BLOB,
      digest,
      diffId: digest,
      sizeBytes,
      uncompressedBytes,
      missing,
    },
    annotations: { [NYDUS_BLOB_ANNOTATION]: 'true' },
    nydus: { bootstrap: Buffer.from(built.bootstrap).toString('base64'), implied, outside },
  };
}

function estargzAnnotations({ tocDigest, uncompressedBytes }: EstargzResult): Record<string, string> {
  return {
    [TOC_DIGEST_ANNOTATION]: tocDigest,
    [UNCOMPRESSED_SIZE_ANNOTATION]: String(uncompressedBytes),
  };
}

/**
 * Reads a layer while it comes; the rest of one that turns out to be large waits on the disk until all of it is there. So
 * no slow registry holds the room of large layers.
 */
async function readWhilePulled(
  job: Job,
  claim: LargeClaim,
  open: (onLarge: () => Promise<void>) => LayerReader,
): Promise<ReadLayer> {
  const large = Promise.withResolvers<void>();
  const pulled = Promise.withResolvers<void>();
  readElsewhere(pulled.promise);
  let isLarge = false;
  const reader = open(async () => {
    isLarge = true;
    large.resolve();
    await pulled.promise;
    await claim.take();
  });
  let reading = Promise.resolve();
  await using held = new AsyncDisposableStack();
  let rest: Scratch | undefined;
  try {
    await pullInto(job, async (chunk) => {
      if (isLarge) {
        rest ??= held.use(await job.scratch());
        await rest.append(chunk);
        return;
      }
      reading = reader.push(chunk);
      readElsewhere(reading);
      await Promise.race([reading, large.promise]);
    });
    pulled.resolve();
    await reading;
    for await (const chunk of rest?.stream() ?? []) await reader.push(chunk as Buffer);
    return await reader.end();
  } catch (error) {
    pulled.reject(error);
    throw error;
  } finally {
    reader.destroy();
  }
}

/**
 * A pull goes on after a cut connection, but not after our own failure: that one ends it, through the signal, and is
 * what is thrown.
 */
async function pullInto(job: Job, take: (chunk: Uint8Array) => Promise<void>): Promise<void> {
  const stop = new AbortController();
  const signal = job.signal === undefined ? stop.signal : AbortSignal.any([job.signal, stop.signal]);
  try {
    await job.pull(async (chunk) => {
      try {
        await take(chunk);
      } catch (error) {
        stop.abort(error);
        throw error;
      }
    }, signal);
  } catch (error) {
    throw stop.signal.aborted ? stop.signal.reason : error;
  }
}
