import { gunzipSync } from 'node:zlib';
import { type Digest, digestOf } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { EROFS_BLOCK } from '../erofs/inodes.ts';
import { Findings, type VerifyResult } from '../estargz/check-layer.ts';
import { bootstrapIn, fileIn, tableFile } from '../rafs/bootstrap-layer.ts';
import { HEADER_BYTES, headerFault } from '../rafs/chunk-info.ts';
import { FEATURES, type RafsBlob, type RafsChunk, roundUp } from '../rafs/format.ts';
import { MAX_BOOTSTRAP_BYTES, readBootstrap } from '../rafs/read-bootstrap.ts';
import { verifyRafs } from '../rafs/verify.ts';
import { annotationsOf, type RawDescriptor } from './documents.ts';
import { NYDUS_BOOTSTRAP_ANNOTATION } from './nydus-image.ts';
import type { Scratch } from './scratch.ts';

/** What the bootstrap of an image says, and what is wrong with its layer. */
export interface NydusBootstrap {
  readonly result: VerifyResult;
  readonly blobs: ReadonlyMap<string, RafsBlob>;
  readonly chunks: readonly RafsChunk[];
}

/** Longest layer with a bootstrap. */
export const MAX_BOOTSTRAP_LAYER_BYTES = 512 * 1024 * 1024;

/** The layer of a Nydus image that has its bootstrap; undefined for other images. */
export function bootstrapOf(layers: readonly RawDescriptor[]): RawDescriptor | undefined {
  const last = layers.at(-1);
  return last !== undefined && annotationsOf(last.raw)[NYDUS_BOOTSTRAP_ANNOTATION] !== undefined
    ? last
    : undefined;
}

/** Reads the bootstrap of an image, and checks that its blobs are layers of the image. */
export function verifyBootstrap(
  packed: Buffer,
  layer: RawDescriptor,
  layers: readonly RawDescriptor[],
  diffId: Digest | undefined,
): NydusBootstrap {
  const findings = new Findings();
  if (digestOf(packed) !== layer.digest)
    findings.add('blob', `the layer does not match its digest ${layer.digest}`);
  try {
    const tar = unpacked(packed);
    if (diffId !== undefined && digestOf(tar) !== diffId)
      findings.add('stream', `it does not match its DiffID ${diffId}`);
    const bootstrap = readBootstrap(bootstrapIn(tar));
    const known = new Set(layers.map(({ digest }) => digest.slice('sha256:'.length)));
    for (const { id } of bootstrap.blobs)
      if (!known.has(id))
        findings.add('entries', `its bootstrap names the blob ${id}, which is no layer of the image`);
    checkTables(tar, bootstrap.blobs, bootstrap.table, findings);
    return {
      result: { findings: findings.list, entries: bootstrap.inodes, chunks: 0 },
      blobs: new Map(bootstrap.blobs.map((blob) => [blob.id, blob])),
      chunks: bootstrap.table,
    };
  } catch (error) {
    if (!isCoded(error, 'LAYER_INVALID')) throw error;
    findings.add('entries', error.message);
    return { result: { findings: findings.list, entries: 0, chunks: 0 }, blobs: new Map(), chunks: [] };
  }
}

/** Tables of chunks beside the bootstrap are what it says, where the image uses all chunks of a blob. */
function checkTables(
  tar: Buffer,
  blobs: readonly RafsBlob[],
  table: readonly RafsChunk[],
  findings: Findings,
): void {
  for (const blob of blobs) {
    const beside = fileIn(tar, `image/${blob.id}.blob.meta`);
    const own = table.filter((chunk) => chunk.blob === blob);
    const isOurs = (blob.features & FEATURES.chunkInfoV2) === 0 && own.length === blob.chunkCount;
    if (beside === undefined || !isOurs) continue;
    const bytes = roundUp(own.length * 16, EROFS_BLOCK);
    if (!beside.subarray(0, bytes).equals(tableFile(blob, own).subarray(0, bytes)))
      findings.add('chunks', `the table of ${blob.id} beside the bootstrap is another`);
    const fault =
      beside.length === bytes + HEADER_BYTES
        ? headerFault(beside.subarray(bytes), blob)
        : 'its table is cut short';
    if (fault !== undefined) findings.add('chunks', `beside the bootstrap: ${fault}`);
  }
}

/** Verifies a data blob of an image. */
export async function verifyNydusBlob(
  layer: RawDescriptor,
  blob: Scratch,
  bootstrap: NydusBootstrap,
  diffId: Digest | undefined,
): Promise<VerifyResult> {
  const described = bootstrap.blobs.get(layer.digest.slice('sha256:'.length));
  return await verifyRafs({
    sizeBytes: blob.sizeBytes,
    read: (offset, length) => blob.read(offset, length),
    ...{ digest: layer.digest, diffId, blob: described },
    chunks: bootstrap.chunks.filter((chunk) => chunk.blob === described),
  });
}

function unpacked(packed: Buffer): Buffer {
  try {
    return gunzipSync(packed, { maxOutputLength: 2 * MAX_BOOTSTRAP_BYTES });
  } catch (cause) {
    throwIfBug(cause);
    const { code } = cause as NodeJS.ErrnoException;
    if (code !== 'ERR_BUFFER_TOO_LARGE' && code?.startsWith('Z_') !== true) throw cause;
    throw new CodedError('LAYER_INVALID', {
      message: `the bootstrap layer cannot be decompressed (${code})`,
      cause,
    });
  }
}
