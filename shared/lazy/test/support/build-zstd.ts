import { BUILD_DEFAULTS, type BuildOptions } from '../../src/estargz/build.ts';
import type { VerifyResult } from '../../src/estargz/check-layer.ts';
import { inlinePacker, type Packer } from '../../src/pack/batch.ts';
import { tarEntries } from '../../src/tar/tar-reader.ts';
import { buildZstdChunked } from '../../src/zstdchunked/build.ts';
import { verifyZstdChunked } from '../../src/zstdchunked/verify.ts';
import { tarBytes } from './layer-tree.ts';

/** A zstd:chunked layer in memory. */
export type ZstdLayer = Exclude<Awaited<ReturnType<typeof buildZstdChunked>>, { unfit: string }> & {
  readonly blob: Buffer;
};

/** A zstd:chunked layer of a tar in memory. @returns the text of why not, if it is unfit */
export async function buildZstd(
  tar: Uint8Array,
  options: Partial<BuildOptions> = {},
  packer: Packer = inlinePacker,
): Promise<ZstdLayer | string> {
  const pieces: Uint8Array[] = [];
  const deps = {
    source: tarBytes(tar),
    packer,
    take: (bytes: Uint8Array) => void pieces.push(Uint8Array.from(bytes)),
  };
  const built = await buildZstdChunked(deps, tarEntries(tar), { ...BUILD_DEFAULTS, level: 3, ...options });
  return 'unfit' in built ? built.unfit : { ...built, blob: Buffer.concat(pieces) };
}

/** The same where it must be fit. */
export async function builtZstd(
  tar: Uint8Array,
  options: Partial<BuildOptions> = {},
  packer?: Packer,
): Promise<ZstdLayer> {
  const built = await buildZstd(tar, options, packer);
  if (typeof built === 'string') throw new Error(`layer is unfit: ${built}`);
  return built;
}

/** What the verifier says of these bytes with what is known of a layer. */
export async function verifyBytes(
  blob: Uint8Array,
  known: Partial<Omit<Parameters<typeof verifyZstdChunked>[0], 'read' | 'sizeBytes'>> = {},
): Promise<VerifyResult & { readonly texts: string[] }> {
  const read = async (offset: number, length: number): Promise<Uint8Array> =>
    blob.subarray(offset, offset + length);
  const result = await verifyZstdChunked({ annotations: {}, ...known, sizeBytes: blob.length, read });
  return { ...result, texts: result.findings.map(({ check, message }) => `${check}: ${message}`) };
}
