import { BUILD_DEFAULTS, type BuildOptions, type BuiltLayer, buildEstargz } from '../../src/estargz/build.ts';
import { inlinePacker, type Packer } from '../../src/pack/batch.ts';
import { tarEntries } from '../../src/tar/tar-reader.ts';
import { tarBytes } from './layer-tree.ts';

/** An eStargz layer of a tar in memory. @returns the text of why not, if it is unfit */
export async function buildLayer(
  tar: Uint8Array,
  options: Partial<BuildOptions> = {},
  packer: Packer = inlinePacker,
): Promise<(BuiltLayer & { blob: Buffer }) | string> {
  const pieces: Uint8Array[] = [];
  const deps = {
    source: tarBytes(tar),
    packer,
    take: (bytes: Uint8Array) => void pieces.push(Uint8Array.from(bytes)),
  };
  const built = await buildEstargz(deps, tarEntries(tar), { ...BUILD_DEFAULTS, ...options });
  return 'unfit' in built ? built.unfit : { ...built, blob: Buffer.concat(pieces) };
}

/** The same where it must be fit. */
export async function builtLayer(
  tar: Uint8Array,
  options: Partial<BuildOptions> = {},
  packer?: Packer,
): Promise<BuiltLayer & { blob: Buffer }> {
  const built = await buildLayer(tar, options, packer);
  if (typeof built === 'string') throw new Error(`layer is unfit: ${built}`);
  return built;
}
