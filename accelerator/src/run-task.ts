import { isCoded } from '@sepia/base/errors';
import { BY_HAND, type ConversionOutcome, type ConversionTask } from '@sepia/cluster/api/conversions';
import type { Cluster } from '@sepia/cluster/cluster';
import type { ConversionRule } from '@sepia/cluster/conversion-rule';
import {
  type ConvertResult,
  convertImage,
  type ImageSource,
  type LayerCache,
} from '@sepia/lazy/convert/convert-image';
import { type Document, isAttestation, readDocument, sourceOf } from '@sepia/lazy/convert/documents';
import { LAYER_DEFAULTS } from '@sepia/lazy/convert/layer-job';
import type { MakeScratch } from '@sepia/lazy/convert/scratch';
import type { Packer } from '@sepia/lazy/pack/batch';
import { isManifestType } from '@sepia/oci/manifest';
import { ProgressBook, type ResultName, resultName } from './core/result-name.ts';
import { runIndex } from './indexing/run-index.ts';
import { clusterSource } from './net/cluster-source.ts';
import type { LayerRecords } from './net/layer-records.ts';
import { type Proxies, upstreamHeader } from './net/proxies.ts';
import { registryTarget } from './net/registry-target.ts';
import type { ResultRegistry } from './net/result-registries.ts';

interface RunTaskDeps {
  readonly cluster: Cluster;
  readonly proxies: Proxies;
  /** The registry that results of an upstream are written to. */
  readonly registryOf: (upstream: string) => ResultRegistry;
  readonly cache: LayerCache;
  readonly packer: Packer;
  readonly scratch: MakeScratch;
  readonly records: LayerRecords;
  readonly clusterKey: Uint8Array;
  /** Id of this accelerator. */
  readonly memberId: string;
  readonly nowMs: () => number;
  readonly onProgress: (progress: ProgressBook) => void;
}

/** Layers of one image that are worked on at once. */
const PARALLEL_LAYERS = 2;
const REFERRERS_MS = 20_000;
const MAX_REFERRERS_BYTES = 4 * 1024 * 1024;

/**
 * Carries out one task. What makes no sense any more (the rule or the tag is gone, the image is a result itself) is
 * skipped with the reason. The same source and rule give the same result, whoever runs it and how often.
 * @throws {CodedError} what the cluster and the registry throw
 */
export async function runTask(
  deps: RunTaskDeps,
  task: ConversionTask,
  signal: AbortSignal,
): Promise<ConversionOutcome> {
  const rule = deps.cluster.document.conversions.find((one) => one.name === task.rule);
  if (task.kind === 'index') return await index(deps, task, rule, signal);
  if (rule === undefined) return skipped(`the rule ${task.rule} is not in the cluster document`);
  const name = resultName(rule, task.repository, task.tag);
  if ('wrong' in name) return skipped(name.wrong);
  const source = clusterSource(deps.proxies, task);
  return task.kind === 'convert'
    ? await convert(deps, task, rule, name, source, signal)
    : await remove(deps, task, name, source, signal);
}

async function index(
  deps: RunTaskDeps,
  task: ConversionTask,
  rule: ConversionRule | undefined,
  signal: AbortSignal,
): Promise<ConversionOutcome> {
  if (rule?.to !== 'index' && task.rule !== BY_HAND)
    return skipped(`the rule ${task.rule} is not in the cluster document`);
  const source = clusterSource(deps.proxies, task);
  const progress = new ProgressBook();
  const onProgress = (): void => deps.onProgress(progress);
  const { clusterKey, memberId, records, nowMs } = deps;
  try {
    return await runIndex(
      { source, records, clusterKey, memberId, nowMs, progress, onProgress },
      task,
      rule,
      signal,
    );
  } catch (error) {
    if (!isGone(error)) throw error;
    return skipped(`${task.repository}:${task.tag} is gone`);
  }
}

async function convert(
  deps: RunTaskDeps,
  task: ConversionTask,
  rule: ConversionRule,
  name: ResultName,
  source: ImageSource,
  signal: AbortSignal,
): Promise<ConversionOutcome> {
  const top = await manifestOrNone(source, task.tag, signal);
  if (top === undefined) return skipped(`${task.repository}:${task.tag} is gone`);
  const reason = await whyNotASource(source, top, rule, signal);
  if (reason !== undefined) return skipped(reason);
  const { client, places, host } = deps.registryOf(task.upstream);
  const before = await client.headManifest(name.repository, name.tag, signal);
  const progress = new ProgressBook();
  const result = await convertImage(
    {
      source,
      target: registryTarget(client, name.repository, places),
      cache: deps.cache,
      packer: deps.packer,
      scratch: deps.scratch,
      report: {
        layer: (layer, phase, done, of) => {
          progress.note(layer.digest, phase, of === 0 ? 1 : done / of);
          deps.onProgress(progress);
        },
        layerDone: (layer) => {
          progress.note(layer.digest, 'done', 1);
          deps.onProgress(progress);
        },
      },
      signal,
    },
    top.digest,
    {
      ...LAYER_DEFAULTS,
      format: 'estargz',
      level: rule.level,
      platforms: rule.platforms,
      tag: name.tag,
      parallel: PARALLEL_LAYERS,
    },
  );
  const lost = await referrersOf(deps.proxies, task, top.digest, signal);
  return {
    ...outcomeOf(result),
    outcome: before === result.result.digest ? 'unchanged' : 'converted',
    target: `${host}/${name.repository}:${name.tag}`,
    ...(lost.length === 0 ? {} : { lost }),
  };
}

/** Takes a result away whose source is gone; a tag that is no result, or whose source is back, stays. */
async function remove(
  deps: RunTaskDeps,
  task: ConversionTask,
  name: ResultName,
  source: ImageSource,
  signal: AbortSignal,
): Promise<ConversionOutcome> {
  if ((await manifestOrNone(source, task.tag, signal)) !== undefined)
    return skipped('the source is there again');
  const there = clusterSource(deps.proxies, { upstream: task.upstream, repository: name.repository });
  const result = await manifestOrNone(there, name.tag, signal);
  if (result === undefined) return skipped('there is no result');
  if (madeFrom(result) === undefined)
    return skipped(`${name.repository}:${name.tag} is not a result of a conversion`);
  const { client, host } = deps.registryOf(task.upstream);
  await client.deleteManifest(name.repository, name.tag, signal);
  return { outcome: 'removed', target: `${host}/${name.repository}:${name.tag}`, digest: result.digest };
}

/** The digest of the source of a result; undefined for other documents. */
function madeFrom(document: Document): string | undefined {
  const parsed = readDocument(document.bytes, document.mediaType);
  return parsed.kind === 'other' ? undefined : sourceOf(parsed.json);
}

/** A result, or an index that holds one, is never a source; nor is what is no image, or too large. */
async function whyNotASource(
  source: ImageSource,
  top: Document,
  rule: ConversionRule,
  signal: AbortSignal,
): Promise<string | undefined> {
  const parsed = readDocument(top.bytes, top.mediaType);
  if (parsed.kind === 'other') return 'it is not an image of layers';
  if (sourceOf(parsed.json) !== undefined) return 'it is a result of a conversion';
  let sizeBytes = 0;
  const add = (document: ReturnType<typeof readDocument>): void => {
    if (document.kind === 'image') for (const layer of document.layers) sizeBytes += layer.sizeBytes;
  };
  add(parsed);
  for (const child of parsed.kind === 'index' ? parsed.children : []) {
    if (!isManifestType(child.mediaType) || isAttestation(child)) continue;
    const document = await source.manifest(child.digest, signal);
    const inner = readDocument(document.bytes, document.mediaType);
    if (inner.kind !== 'other' && sourceOf(inner.json) !== undefined)
      return 'its index holds a result of a conversion';
    add(inner);
  }
  const limit = rule['max-size'];
  return limit !== undefined && sizeBytes > limit
    ? `it has ${sizeBytes} bytes; the rule takes up to ${limit}`
    : undefined;
}

async function manifestOrNone(
  source: ImageSource,
  reference: string,
  signal: AbortSignal,
): Promise<Document | undefined> {
  try {
    return await source.manifest(reference, signal);
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

function isGone(error: unknown): boolean {
  return (
    isCoded(error, 'MANIFEST_UNKNOWN') ||
    isCoded(error, 'TAG_UNKNOWN') ||
    isCoded(error, 'REPOSITORY_UNKNOWN')
  );
}

/** What is attached to the source (signatures, SBOMs): it names the source's digest, so the result goes without. */
async function referrersOf(
  proxies: Proxies,
  task: ConversionTask,
  digest: string,
  signal: AbortSignal,
): Promise<string[]> {
  const { bytes } = await proxies.bytes(
    {
      method: 'GET',
      path: `/v2/${task.repository}/referrers/${digest}`,
      headers: upstreamHeader(task.upstream),
      headersTimeoutMs: REFERRERS_MS,
      signal,
    },
    MAX_REFERRERS_BYTES,
  );
  const { manifests } = JSON.parse(bytes.toString('utf8')) as {
    manifests?: { artifactType?: unknown; digest?: unknown }[];
  };
  return (manifests ?? [])
    .slice(0, 50)
    .map((one) => `${String(one.artifactType ?? 'unknown')} ${String(one.digest)}`);
}

function outcomeOf({ source, result, layers }: ConvertResult): Omit<ConversionOutcome, 'outcome'> {
  const sizeOf = ({ record, source: layer }: ConvertResult['layers'][number]): number =>
    record.kind === 'converted' ? record.sizeBytes : layer.sizeBytes;
  return {
    source: source.digest,
    digest: result.digest,
    sourceBytes: layers.reduce((sum, layer) => sum + layer.source.sizeBytes, 0),
    targetBytes: layers.reduce((sum, layer) => sum + sizeOf(layer), 0),
    layers: layers.length,
    layersFromCache: layers.filter((layer) => layer.isFromCache).length,
    layersKept: layers.filter((layer) => layer.record.kind === 'kept').length,
  };
}

function skipped(reason: string): ConversionOutcome {
  return { outcome: 'skipped', reason };
}
