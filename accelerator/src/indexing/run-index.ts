import type { Digest } from '@sepia/base/digest';
import type { BlobName } from '@sepia/base/names/blob-name';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { BY_HAND, type ConversionOutcome, type ConversionTask } from '@sepia/cluster/api/conversions';
import { type BindingFacts, type LayerBinding, signBinding } from '@sepia/cluster/api/layer-binding';
import { type ConversionRule, sizeFault } from '@sepia/cluster/conversion-rule';
import type { ImageSource } from '@sepia/lazy/convert/ends';
import type { LargeLayers } from '@sepia/lazy/convert/large-layers';
import type { MakeScratch } from '@sepia/lazy/convert/scratch';
import { type WorkBounds, WorkLimits } from '@sepia/lazy/convert/work-limits';
import type { LayerRecords } from '../net/layer-records.ts';
import { type Image, type ImageLayer, imagesOf } from './images.ts';
import { indexLayer, type Learned, learnedFrom } from './index-layer.ts';
import { indexNydus, nydusKindOf } from './index-nydus.ts';
import { type Offers, takeOffer } from './offers.ts';
import { isPublished, type publish } from './publish.ts';

interface RunIndexDeps {
  readonly source: ImageSource;
  /** Room for the layers of Nydus images, and for those that others indexed. */
  readonly scratch: MakeScratch;
  /** Free bytes of the disk that it is on. */
  readonly freeBytes: () => Promise<number>;
  readonly largeLayers: LargeLayers;
  readonly bounds?: WorkBounds;
  readonly records: Pick<LayerRecords, 'get' | 'bind' | 'store'>;
  readonly clusterKey: Uint8Array;
  /** Id of this accelerator. */
  readonly memberId: string;
  readonly nowMs: () => number;
  /** Hears how far a layer is: a share from 0 to 1. */
  readonly progress: { note(layer: Digest, phase: 'pull' | 'done', share: number): void };
  readonly onProgress: () => void;
  /** Indexes that somebody else made. */
  readonly offers: Pick<Offers, 'of' | 'refused'>;
  /** Pushes the indexes of an image, where the rule wants it. */
  readonly publish?: (
    image: Image,
    bindings: ReadonlyMap<Digest, LayerBinding>,
    signal: AbortSignal,
  ) => ReturnType<typeof publish>;
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
  const limits = new WorkLimits(deps.bounds);
  const images = await imagesOf(deps.source, task.tag, signal, limits);
  const wanted = images.filter((image) => whyNot(image, rule) === undefined);
  const [first] = images;
  if (first === undefined)
    return { outcome: 'skipped', reason: 'it is not an image of layers, or has none here' };
  if (wanted.length === 0) return { outcome: 'skipped', reason: whyNot(first, rule)! };
  const layers = new Map(wanted.flatMap((image) => image.layers.map((one) => [one.digest, one] as const)));
  const notLazy = new Map<Digest, string>();
  const made = new Set<Digest>();
  const taken = new Set<Digest>();
  const bindings = new Map<Digest, LayerBinding>();
  const note = (layer: ImageLayer, reason: string | undefined, isNew: boolean): void => {
    if (isNew) made.add(layer.digest);
    if (reason !== undefined) notLazy.set(layer.digest, `${layer.digest}: ${reason}`);
    deps.progress.note(layer.digest, 'done', 1);
    deps.onProgress();
  };
  for (const image of wanted) {
    if (nydusKindOf(image) !== undefined) {
      await indexNydusImage({ ...deps, limits }, task, image, note, signal);
      continue;
    }
    for (const layer of image.layers) {
      if (bindings.has(layer.digest)) continue;
      signal.throwIfAborted();
      const { binding, isNew, isTaken } = await bindingOf(deps, task, { image, layer, limits }, signal);
      bindings.set(layer.digest, binding);
      if (isTaken) taken.add(layer.digest);
      note(layer, binding.reason, isNew);
    }
  }
  const pushed = [];
  for (const image of wanted) pushed.push(await deps.publish?.(image, bindings, signal));
  const referrer = pushed.find((one) => one !== undefined);
  return {
    outcome: made.size > 0 || pushed.some((one) => one?.isNew) ? 'indexed' : 'unchanged',
    ...(referrer === undefined ? {} : { target: referrer.target }),
    digest: first.digest,
    sourceBytes: [...layers.values()].reduce((sum, layer) => sum + layer.sizeBytes, 0),
    layers: layers.size,
    layersFromCache: layers.size - made.size,
    ...(taken.size === 0 ? {} : { layersTaken: taken.size }),
    ...(notLazy.size === 0 ? {} : { notLazy: [...notLazy.values()].slice(0, 50) }),
  };
}

/**
 * True if every layer of what a tag points at has its record, and a rule that pushes indexes has done so, or the rule leaves
 * it alone. @throws as {@link runIndex}
 */
export async function isIndexed(
  deps: Pick<RunIndexDeps, 'source' | 'records'> & { readonly referrers: Parameters<typeof isPublished>[0] },
  place: { readonly upstream: string; readonly repository: string; readonly tag: string },
  rule: ConversionRule,
  signal: AbortSignal,
): Promise<boolean> {
  const images = await imagesOf(deps.source, place.tag, signal);
  for (const image of images.filter((one) => whyNot(one, rule) === undefined)) {
    const kindOf = nydusKindOf(image);
    const bindings = new Map<Digest, LayerBinding>();
    for (const layer of image.layers) {
      const known = await deps.records.get(nameOf(place, layer), signal);
      if (!isOnRecord(known, kindOf?.(layer))) return false;
      bindings.set(layer.digest, known);
    }
    if (rule['push-index'] && !(await isPublished(deps.referrers, image, bindings, signal))) return false;
  }
  return true;
}

/**
 * The layers of a Nydus image are read together, all or none. What was found wrong goes on record only where a layer has no
 * record: it may be an ordinary layer that this image calls otherwise.
 */
async function indexNydusImage(
  deps: RunIndexDeps & { readonly limits: WorkLimits },
  task: ConversionTask,
  image: Image,
  note: (layer: ImageLayer, reason: string | undefined, isNew: boolean) => void,
  signal: AbortSignal,
): Promise<void> {
  const { records } = deps;
  const kindOf = nydusKindOf(image)!;
  const known = new Map<Digest, LayerBinding | undefined>();
  for (const layer of image.layers) known.set(layer.digest, await records.get(nameOf(task, layer), signal));
  const isKnown = image.layers.every((layer) => isOnRecord(known.get(layer.digest), kindOf(layer)));
  const isToRenew = task.rule === BY_HAND && [...known.values()].some((one) => one?.bad !== undefined);
  if (isKnown && !isToRenew) {
    for (const layer of image.layers) note(layer, known.get(layer.digest)?.reason, false);
    return;
  }
  const learned = await indexNydus(deps, image, (layer, bytes) => noteBytes(deps, layer, bytes), signal);
  for (const layer of image.layers) {
    const one = learned.get(layer.digest)!;
    const { reason } = one;
    const isNew = reason === undefined || known.get(layer.digest) === undefined;
    if (isNew) await bind(deps, task, layer, one, signal);
    note(layer, reason, isNew);
  }
}

/** A record that says something of a layer as its image has it; what another image found wrong does not. */
function isOnRecord(known: LayerBinding | undefined, kind: BindingFacts['kind']): known is LayerBinding {
  if (known === undefined) return false;
  return kind === undefined ? known.kind === undefined || known.index !== undefined : known.kind === kind;
}

async function bindingOf(
  deps: RunIndexDeps,
  task: ConversionTask,
  {
    image,
    layer,
    limits,
  }: { readonly image: Image; readonly layer: ImageLayer; readonly limits: WorkLimits },
  signal: AbortSignal,
): Promise<{ binding: LayerBinding; isNew: boolean; isTaken: boolean }> {
  const known = await deps.records.get(nameOf(task, layer), signal);
  const isToRenew = task.rule === BY_HAND && known?.bad !== undefined;
  if (isOnRecord(known, undefined) && !isToRenew) return { binding: known, isNew: false, isTaken: false };
  const onProgress = (bytes: number): void => noteBytes(deps, layer, bytes);
  const parts = { ...deps, limits, onProgress };
  const taken = isToRenew ? undefined : await takenOf(parts, image, layer, signal);
  const learned = taken ?? (await indexLayer(parts, layer, signal));
  const binding = await bind(deps, task, layer, learned, signal);
  return { binding, isNew: true, isTaken: taken !== undefined };
}

/** What is learned of a gzip layer by an index that is offered; of others making one costs no more than checking it. */
async function takenOf(
  deps: Omit<Parameters<typeof takeOffer>[0], 'onRefused'> & Pick<RunIndexDeps, 'offers'>,
  image: Image,
  layer: ImageLayer,
  signal: AbortSignal,
): Promise<Learned | undefined> {
  if (!layer.mediaType.endsWith('gzip')) return undefined;
  const offer = await deps.offers.of(image.digest, layer.digest, signal);
  if (offer === undefined) return undefined;
  const onRefused = (error: unknown): void => deps.offers.refused(error, layer.digest);
  const made = await takeOffer({ ...deps, onRefused }, layer, offer, signal);
  if (made === undefined) return undefined;
  const learned = learnedFrom(() => made);
  return learned.index === undefined ? undefined : learned;
}

function noteBytes(deps: RunIndexDeps, layer: ImageLayer, bytes: number): void {
  deps.progress.note(layer.digest, 'pull', layer.sizeBytes === 0 ? 1 : bytes / layer.sizeBytes);
  deps.onProgress();
}

async function bind(
  deps: RunIndexDeps,
  task: ConversionTask,
  layer: ImageLayer,
  { bytes, ...learned }: Learned,
  signal: AbortSignal,
): Promise<LayerBinding> {
  const { records, clusterKey } = deps;
  const name = nameOf(task, layer);
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
  return binding;
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
