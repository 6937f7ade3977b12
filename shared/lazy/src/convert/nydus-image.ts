import { zstdDecompressSync } from 'node:zlib';
import { type Digest, digestOf, parseDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { type JsonObject, parseObject } from '@sepia/base/json/lossless-json';
import { isObject } from '@sepia/base/json/plain-object';
import type { Packer } from '../pack/batch.ts';
import type { Compressor } from '../pack/unpack.ts';
import { bootstrapLayer } from '../rafs/bootstrap-layer.ts';
import { type LayerPart, mergeLayers } from '../rafs/merge.ts';
import { MAX_BOOTSTRAP_BYTES, readBootstrap } from '../rafs/read-bootstrap.ts';
import {
  type Document,
  documentOf,
  type NewLayer,
  newManifest,
  OCI_CONFIG,
  type RawDescriptor,
  type ResultMarks,
  type SourceDocument,
} from './documents.ts';
import type { ConvertedRecord, LayerRecord } from './layer-job.ts';
import { NYDUS_BOOTSTRAP_ANNOTATION } from './nydus-marks.ts';

/** Media type of a data blob. */
export const NYDUS_BLOB = 'application/vnd.oci.image.layer.nydus.blob.v1';
const NYDUS_VERSION_ANNOTATION = 'containerd.io/snapshot/nydus-fs-version';
/** Bootstraps of all layers of an image; their trees take some times as much memory. */
const MAX_TABLE_BYTES = 512 * 1024 * 1024;
/** Bootstraps as they are on record: those of some ten thousand files. */
const LARGE_TABLE_CHARS = 512 * 1024;
const OCI_GZIP = 'application/vnd.oci.image.layer.v1.tar+gzip';

interface Wanted {
  readonly source: Document;
  readonly image: Extract<SourceDocument, { kind: 'image' }>;
  readonly config: Uint8Array;
  /** Of each layer, from the bottom; undefined where it is no tar. */
  readonly records: readonly (LayerRecord | undefined)[];
  readonly marks: ResultMarks;
  readonly chunkBytes: number;
  readonly compressor: Compressor;
  readonly prioritized: readonly string[];
  readonly packer: Packer;
}

/** An image whose layers are data blobs, and behind them one with the bootstrap. */
interface NydusImage {
  readonly manifest: Document;
  /** The bootstrap's layer and the config, which are not stored yet. */
  readonly parts: readonly { readonly bytes: Buffer; readonly digest: Digest }[];
}

/** What must be the case for all layers: a Nydus image has no ordinary ones. @returns why the image stays as it is */
export async function nydusImage(wanted: Wanted): Promise<NydusImage | { readonly unfit: string }> {
  const converted: ConvertedRecord[] = [];
  for (const [index, record] of wanted.records.entries()) {
    const { digest, mediaType } = wanted.image.layers[index] as RawDescriptor;
    if (record === undefined) return { unfit: `the layer ${digest} is ${mediaType}` };
    if (record.kind === 'kept') return { unfit: `the layer ${digest} cannot be one (${record.reason})` };
    converted.push(record);
  }
  const known = new Map<string, LayerPart>();
  let tableBytes = 0;
  for (const record of converted) {
    if (known.has(record.digest)) continue;
    const bytes = bootstrapOf(record);
    tableBytes += bytes.length;
    if (tableBytes > MAX_TABLE_BYTES)
      return { unfit: `its layers have more than ${MAX_TABLE_BYTES} bytes of tables` };
    known.set(record.digest, layerPart(record, bytes));
  }
  const layers = converted.map((record) => known.get(record.digest)!);
  const merged = mergeLayers(layers, wanted);
  if ('unfit' in merged) return merged;
  const { bytes, diffId } = await bootstrapLayer(
    merged,
    [...new Set(layers)].map((one) => one.bootstrap),
    wanted.packer,
  );
  const blob = { bytes: Buffer.from(bytes), digest: digestOf(bytes) };
  const last: NewLayer = {
    mediaType: OCI_GZIP,
    digest: blob.digest,
    sizeBytes: bytes.length,
    diffId: parseDigest(diffId),
    annotations: { [NYDUS_BOOTSTRAP_ANNOTATION]: 'true', [NYDUS_VERSION_ANNOTATION]: '6' },
  };
  const config = nydusConfig(wanted.config, [...converted, last]);
  const manifest = newManifest(wanted.source, wanted.image, config, [...converted, last], wanted.marks);
  return { manifest, parts: [blob, config] };
}

/** What is said of an image that is one already. */
export function nydusAlready({ digest }: Document): CodedError {
  return new CodedError('REQUEST_INVALID', {
    message: `${digest} is a Nydus image; convert the image that it was made from`,
  });
}

/** True where the tables of these layers together take much memory. */
export function hasLargeTables(records: readonly (LayerRecord | undefined)[]): boolean {
  const lengths = records.map((one) => (one?.kind === 'converted' ? (one.nydus?.bootstrap.length ?? 0) : 0));
  return lengths.reduce((sum, length) => sum + length, 0) > LARGE_TABLE_CHARS;
}

function bootstrapOf({ nydus }: ConvertedRecord): Buffer {
  return zstdDecompressSync(Buffer.from(nydus!.bootstrap, 'base64'), {
    maxOutputLength: MAX_BOOTSTRAP_BYTES,
  });
}

function layerPart({ digest, nydus }: ConvertedRecord, bytes: Buffer): LayerPart {
  const { implied, outside } = nydus!;
  return {
    bootstrap: readBootstrap(bytes, { insideOf: digest.slice('sha256:'.length) }),
    implied: new Set(implied),
    outside: new Map(outside),
  };
}

/** The config with a DiffID for each layer, and a line of history for the last where each other one has its own. */
function nydusConfig(config: Uint8Array, layers: readonly NewLayer[]): Document {
  const json = parseObject(config) as JsonObject;
  const rootfs = { ...(json['rootfs'] as JsonObject), diff_ids: layers.map((layer) => layer.diffId) };
  const lines = Array.isArray(json['history']) ? (json['history'] as unknown[]) : [];
  const ofLayers = lines.filter((line) => !isObject(line) || line['empty_layer'] !== true);
  // Registries that count compare lines and layers, unless there are no lines.
  const history =
    ofLayers.length === layers.length - 1
      ? {
          history: [...lines, { created_by: 'sepia convert', comment: 'Nydus Bootstrap Layer' }],
        }
      : {};
  return documentOf({ ...json, rootfs, ...history }, OCI_CONFIG);
}
