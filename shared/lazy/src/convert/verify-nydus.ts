import type { Digest } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import { EROFS_BLOCK } from '../erofs/inodes.ts';
import { checkBlob, Findings, type VerifyResult } from '../estargz/check-layer.ts';
import type { ReadAt } from '../pack/inflate.ts';
import { BOOTSTRAP_NAME, tableFile, tableName } from '../rafs/bootstrap-layer.ts';
import { type ChunkInfo, HEADER_BYTES, headerFault } from '../rafs/chunk-info.ts';
import {
  type ChunkAddress,
  FEATURES,
  invalid,
  type RafsBlob,
  type RafsChunk,
  roundUp,
} from '../rafs/format.ts';
import { type ReadBootstrap, readImageBootstrap } from '../rafs/read-bootstrap.ts';
import { readBootstrapLayer } from '../rafs/read-bootstrap-layer.ts';
import { type TakeChunk, verifyRafs } from '../rafs/verify.ts';
import { annotationsOf, type RawDescriptor } from './documents.ts';
import { NYDUS_BOOTSTRAP_ANNOTATION } from './nydus-marks.ts';
import type { Scratch } from './scratch.ts';

/** What the bootstrap of an image says, and what is wrong with its layer. */
export interface NydusBootstrap {
  readonly result: VerifyResult;
  readonly blobs: ReadonlyMap<string, RafsBlob>;
  readonly chunks: readonly RafsChunk[];
  /** Whole, with the digest of the uncompressed layer; undefined where it cannot be read. */
  readonly read: { readonly bootstrap: ReadBootstrap<ChunkAddress>; readonly diffId: Digest } | undefined;
}

/** The layer of a Nydus image that has its bootstrap; undefined for other images. */
export function bootstrapOf(layers: readonly RawDescriptor[]): RawDescriptor | undefined {
  const last = layers.at(-1);
  return last !== undefined && annotationsOf(last.raw)[NYDUS_BOOTSTRAP_ANNOTATION] !== undefined
    ? last
    : undefined;
}

/**
 * Reads the bootstrap of an image, and checks that its blobs are layers of the image. Memory: the bootstrap and the
 * tables beside it, whatever else the layer has. @throws what `packed.read` throws
 */
export async function verifyBootstrap(
  layer: RawDescriptor,
  packed: Scratch,
  layers: readonly RawDescriptor[],
  diffId: Digest | undefined,
): Promise<NydusBootstrap> {
  const { sizeBytes } = packed;
  const findings = new Findings();
  const read: ReadAt = (offset, length) => packed.read(offset, length);
  await checkBlob({ sizeBytes, read, digest: layer.digest, diffId }, findings.add);
  const known = new Set(layers.map(({ digest }) => digest.slice('sha256:'.length)));
  const wanted = new Set([BOOTSTRAP_NAME, ...[...known].map(tableName)]);
  try {
    const found = await readBootstrapLayer({ sizeBytes, read }, (name) => wanted.has(name));
    if (diffId !== undefined && found.diffId !== diffId)
      findings.add('stream', `it does not match its DiffID ${diffId}`);
    const bytes = found.files.get(BOOTSTRAP_NAME);
    if (bytes === undefined) throw invalid(`its bootstrap layer has no ${BOOTSTRAP_NAME}`);
    const bootstrap = readImageBootstrap(bytes);
    for (const { id } of bootstrap.blobs)
      if (!known.has(id))
        findings.add('entries', `its bootstrap names the blob ${id}, which is no layer of the image`);
    checkTables(found.files, bootstrap.blobs, bootstrap.table, findings);
    return {
      result: { findings: findings.list, entries: bootstrap.inodes, chunks: 0 },
      blobs: new Map(bootstrap.blobs.map((blob) => [blob.id, blob])),
      chunks: bootstrap.table,
      read: { bootstrap, diffId: found.diffId as Digest },
    };
  } catch (error) {
    if (!isCoded(error, 'LAYER_INVALID')) throw error;
    findings.add('entries', error.message);
    const result = { findings: findings.list, entries: 0, chunks: 0 };
    return { result, blobs: new Map(), chunks: [], read: undefined };
  }
}

/** Tables of chunks beside the bootstrap are what it says, where the image uses all chunks of a blob. */
function checkTables(
  files: ReadonlyMap<string, Buffer>,
  blobs: readonly RafsBlob[],
  table: readonly RafsChunk[],
  findings: Findings,
): void {
  const byBlob = Map.groupBy(table, (chunk) => chunk.blob);
  for (const blob of blobs) {
    const beside = files.get(tableName(blob.id));
    const own = byBlob.get(blob) ?? [];
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

/** Verifies a data blob of an image. @param told as those of `verifyRafs` */
export async function verifyNydusBlob(
  layer: RawDescriptor,
  blob: Scratch,
  bootstrap: NydusBootstrap,
  diffId: Digest | undefined,
  told: {
    readonly content?: ((blob: RafsBlob, infos: readonly ChunkInfo[]) => TakeChunk) | undefined;
    readonly unpacked?: (bytes: number) => void;
  } = {},
): Promise<VerifyResult> {
  const { content, unpacked } = told;
  const described = bootstrap.blobs.get(layer.digest.slice('sha256:'.length));
  return await verifyRafs({
    sizeBytes: blob.sizeBytes,
    read: (offset, length) => blob.read(offset, length),
    ...{ digest: layer.digest, diffId, blob: described, unpacked },
    chunks: bootstrap.chunks.filter((chunk) => chunk.blob === described),
    parts: described === undefined ? [] : partsIn(bootstrap, described),
    ...(described === undefined || content === undefined
      ? {}
      : { content: (infos) => content(described, infos) }),
  });
}

/** What the image's files have of a blob. */
function partsIn({ read }: NydusBootstrap, blob: RafsBlob): ChunkAddress[] {
  const found = new Set<ChunkAddress>();
  for (const own of read?.bootstrap.chunks.values() ?? [])
    for (const part of own) if (part.blob === blob) found.add(part);
  return [...found];
}
