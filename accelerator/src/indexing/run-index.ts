import type { Digest } from '@sepia/base/digest';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { BY_HAND, type ConversionOutcome, type ConversionTask } from '@sepia/cluster/api/conversions';
import { type BindingFacts, type LayerBinding, signBinding } from '@sepia/cluster/api/layer-binding';
import { type ConversionRule, sizeFault } from '@sepia/cluster/conversion-rule';
import type { ImageSource } from '@sepia/lazy/convert/ends';
import type { LayerRecords } from '../net/layer-records.ts';
import { type Image, type ImageLayer, imagesOf } from './images.ts';
import { indexLayer } from './index-layer.ts';

interface RunIndexDeps {
  readonly source: ImageSource;
  readonly records: Pick<LayerRecords, 'get' | 'bind' | 'store'>;
  readonly clusterKey: Uint8Array;
  /** Id of this accelerator. */
  readonly memberId: string;
  readonly nowMs: () => number;
  /** Hears how far a layer is: a share from 0 to 1. */
  readonly progress: { note(layer: Digest, phase: 'pull' | 'done', share: number): void };
  readonly onProgress: () => void;
}

/**
 * Gives every layer of an image its record: index, or why it has none. Layers that have one are left alone, unless its
 * index is bad and somebody asked by hand. The same layer gives the same index, whoever makes it and how often.
 * @throws {CodedError} what cluster and source throw
 */
export async function runIndex(
  deps: RunIndexDeps,
  task: ConversionTask,
  rule: ConversionRule | undefined,
  signal: AbortSignal,
): Promise<ConversionOutcome> {
  const images = await imagesOf(deps.source, task.tag, signal);
  const wanted = images.filter((image) => whyNot(image, rule) === undefined);
  const [first] = images;
  if (first === undefined) return { outcome: 'skipped', reason: 'it is not an image of layers' };
  if (wanted.length === 0) return { outcome: 'skipped', reason: whyNot(first, rule)! };
  const layers = new Map(wanted.flatMap((image) => image.layers.map((one) => [one.digest, one] as const)));
  const notLazy: string[] = [];
  let made = 0;
  for (const layer of layers.values()) {
    signal.throwIfAborted();
    const { binding, isNew } = await bindingOf(deps, task, layer, signal);
    if (isNew) made += 1;
    if (binding.reason !== undefined) notLazy.push(`${layer.digest}: ${binding.reason}`);
    deps.progress.note(layer.digest, 'done', 1);
    deps.onProgress();
  }
  return {
    outcome: made > 0 ? 'indexed' : 'unchanged',
    digest: first.digest,
    sourceBytes: [...layers.values()].reduce((sum, layer) => sum + layer.sizeBytes, 0),
    layers: layers.size,
    layersFromCache: layers.size - made,
    ...(notLazy.length === 0 ? {} : { notLazy: notLazy.slice(0, 50) }),
  };
}

/** True if every layer of what a tag points at has its record, or the rule leaves it alone. @throws as {@link runIndex} */
export async function isIndexed(
  deps: Pick<RunIndexDeps, 'source' | 'records'>,
  place: { readonly upstream: string; readonly repository: string; readonly tag: string },
  rule: ConversionRule,
  signal: AbortSignal,
): Promise<boolean> {
  const images = await imagesOf(deps.source, place.tag, signal);
  for (const image of images.filter((one) => whyNot(one, rule) === undefined))
    for (const layer of image.layers)
      if ((await deps.records.get(nameOf(place, layer), signal)) === undefined) return false;
  return true;
}

async function bindingOf(
  deps: RunIndexDeps,
  task: ConversionTask,
  layer: ImageLayer,
  signal: AbortSignal,
): Promise<{ binding: LayerBinding; isNew: boolean }> {
  const { records, clusterKey } = deps;
  const name = nameOf(task, layer);
  const known = await records.get(name, signal);
  const isToRenew = task.rule === BY_HAND && known?.bad !== undefined;
  if (known !== undefined && !isToRenew) return { binding: known, isNew: false };
  const onProgress = (bytes: number): void => {
    deps.progress.note(layer.digest, 'pull', layer.sizeBytes === 0 ? 1 : bytes / layer.sizeBytes);
    deps.onProgress();
  };
  const { bytes, ...learned } = await indexLayer(deps.source, layer, onProgress, signal);
  // The index first: a record never names what is not there.
  if (bytes !== undefined) await records.store(name, learned.index!, bytes, signal);
  const facts: BindingFacts = {
    version: 1,
    layer: layer.digest,
    ...learned,
    home: { upstream: task.upstream, repository: task.repository },
    by: deps.memberId,
    atMs: deps.nowMs(),
  };
  const binding = signBinding(clusterKey, facts);
  await records.bind(name, binding, signal);
  return { binding, isNew: true };
}

function whyNot(image: Image, rule: ConversionRule | undefined): string | undefined {
  if (rule === undefined) return undefined;
  const sizeBytes = image.layers.reduce((sum, layer) => sum + layer.sizeBytes, 0);
  return sizeFault(rule, sizeBytes);
}

function nameOf(
  place: { readonly upstream: string; readonly repository: string },
  layer: ImageLayer,
): BlobName {
  return {
    upstream: place.upstream,
    repository: parseRepositoryName(place.repository),
    digest: layer.digest,
  };
}
