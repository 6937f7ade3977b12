import { join } from 'node:path';
import { type Digest, digestHex, parseDigest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { NYDUS_BOOTSTRAP_ANNOTATION } from '@sepia/lazy/convert/nydus-marks';
import { imageConflicts, lowestConflict } from '@sepia/lazy/erofs/image-conflicts';
import { indexWithImage } from '@sepia/lazy/erofs/image-part';
import { layerTree } from '@sepia/lazy/erofs/layer-tree';
import { readIndexHead } from '@sepia/lazy/index/layer-index';
import { assertLayer, LayerIndexer, type MadeIndex } from '@sepia/lazy/index/layer-indexer';
import { textOf } from '@sepia/lazy/tar/byte-string';
import { isIndexType, parseServedManifest } from '@sepia/oci/manifest';
import { resolveImage } from '../registry/pull-image.ts';
import type { PulledManifest, RegistryClient } from '../registry/registry-client.ts';
import { saveIndex } from './layer-file.ts';

interface IndexImageOptions {
  readonly spanBytes: number;
  /** Where `<layer hex>.lazy` files go. */
  readonly dir: string;
  readonly onLayer: (layer: { digest: Digest; file: string; indexBytes: number }) => void;
}

interface Layer {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly diffId: Digest;
}

/**
 * Pulls every layer of an image once, through the cluster, and makes its index. Nothing is written unless all layers can
 * be lazy, have the diffIDs that the image's config names, and give together what unpacking them gives.
 * @throws {CodedError} `LAYER_NOT_LAZY` naming layer and reason, `DIGEST_MISMATCH`, or what the registry answered
 */
export async function indexImage(
  client: RegistryClient,
  image: { readonly repository: string; readonly reference: string },
  options: IndexImageOptions,
): Promise<void> {
  const { manifests } = await resolveImage(client, image.repository, image.reference);
  for (const manifest of manifests) {
    if (isIndexType(parseServedManifest(manifest.bytes, manifest.mediaType).mediaType)) continue;
    const layers = await layersOf(client, image.repository, manifest);
    const made: MadeIndex[] = [];
    for (const layer of layers)
      made.push(await indexLayer(client, image.repository, layer, options.spanBytes));
    assertNoConflict(made);
    for (const one of made) {
      const file = join(options.dir, `${digestHex(one.layer)}.lazy`);
      await saveIndex(file, one.bytes);
      options.onLayer({ digest: one.layer, file, indexBytes: one.bytes.length });
    }
  }
}

async function indexLayer(
  client: RegistryClient,
  repository: string,
  layer: Layer,
  spanBytes: number,
): Promise<MadeIndex> {
  const indexer = new LayerIndexer({ spanBytes });
  try {
    await client.pullBlob(repository, layer, async (chunk) => indexer.push(chunk));
    const made = indexer.end();
    assertLayer(made, { layer: layer.digest, diffId: layer.diffId });
    return { ...made, bytes: indexWithImage(made.bytes) };
  } catch (error) {
    if (!isCoded(error, 'LAYER_NOT_LAZY') && !isCoded(error, 'LAYER_INVALID')) throw error;
    const why = [error.detail['reason'], error.detail['path']].filter((one) => one !== undefined).join(': ');
    throw new CodedError(error.code, {
      message: `${layer.digest}: ${error.message}${why === '' ? '' : ` (${why})`}`,
      detail: { ...error.detail, layer: layer.digest },
      cause: error,
    });
  }
}

function assertNoConflict(made: readonly MadeIndex[]): void {
  const entries = made.map((one) => readIndexHead(one.bytes).entries);
  const conflict = lowestConflict(entries[0] ?? []) ?? imageConflicts(entries.map((of) => layerTree(of)))[0];
  if (conflict === undefined) return;
  const layer = made[conflict.layer]!.layer;
  throw new CodedError('LAYER_NOT_LAZY', {
    message: `${layer}: mounted in its place among the layers, it would differ from what is unpacked (${conflict.reason}: ${textOf(conflict.path)})`,
    detail: { layer, reason: conflict.reason, path: textOf(conflict.path) },
  });
}

/** Layers with the diffIDs that the config names. @throws {CodedError} `MANIFEST_SYNTAX` */
async function layersOf(
  client: RegistryClient,
  repository: string,
  manifest: PulledManifest,
): Promise<Layer[]> {
  const { config, layers } = JSON.parse(manifest.bytes.toString('utf8')) as {
    config?: { digest: string; size: number };
    layers?: { digest: string; size: number; annotations?: Readonly<Record<string, string>> }[];
  };
  if (layers?.at(-1)?.annotations?.[NYDUS_BOOTSTRAP_ANNOTATION] !== undefined)
    throw new CodedError('LAYER_NOT_LAZY', {
      message: `${manifest.digest} is a Nydus image, whose layers are indexed together, by an accelerator: leave out --out`,
    });
  if (config === undefined || layers === undefined)
    throw new CodedError('MANIFEST_SYNTAX', { message: `${manifest.digest} is no image of layers` });
  const chunks: Buffer[] = [];
  const blob = { digest: parseDigest(config.digest), sizeBytes: config.size };
  await client.pullBlob(repository, blob, async (chunk) => void chunks.push(Buffer.from(chunk)));
  const { rootfs } = JSON.parse(Buffer.concat(chunks).toString('utf8')) as {
    rootfs?: { diff_ids?: string[] };
  };
  const diffIds = rootfs?.diff_ids ?? [];
  if (diffIds.length !== layers.length)
    throw new CodedError('MANIFEST_SYNTAX', { message: `${manifest.digest}: its config names other layers` });
  return layers.map((layer, index) => ({
    digest: parseDigest(layer.digest),
    sizeBytes: layer.size,
    diffId: parseDigest(diffIds[index]!),
  }));
}
