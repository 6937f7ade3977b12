import { CodedError } from '@sepia/base/errors';
import type { ConversionOutcome, ConversionTask } from '@sepia/cluster/api/conversions';
import type { ConversionRule } from '@sepia/cluster/conversion-rule';
import { type ConvertResult, convertImage, type LayerCache } from '@sepia/lazy/convert/convert-image';
import type { Document } from '@sepia/lazy/convert/documents';
import type { ImageSource, ImageTarget } from '@sepia/lazy/convert/ends';
import type { LargeLayers } from '@sepia/lazy/convert/large-layers';
import { type ConvertFormat, layerDefaults } from '@sepia/lazy/convert/layer-job';
import { isNothingWanted } from '@sepia/lazy/convert/platforms';
import type { MakeScratch } from '@sepia/lazy/convert/scratch';
import type { Packer } from '@sepia/lazy/pack/batch';
import type { Proxies } from '../net/proxies.ts';
import { recordedStart } from '../net/recorded-start.ts';
import { registryTarget } from '../net/registry-target.ts';
import type { ResultRegistry } from '../net/result-registries.ts';
import { attachedTo } from './attached.ts';
import { ProgressBook } from './core/progress-book.ts';
import type { ResultName } from './core/result-name.ts';
import { heardBy, manifestOrNone, whyNotASource } from './sources.ts';

export interface ConvertDeps {
  readonly proxies: Proxies;
  /** The registry that results of an upstream are written to. */
  readonly registryOf: (upstream: string) => ResultRegistry;
  readonly cache: LayerCache;
  readonly packer: Packer;
  readonly largeLayers: LargeLayers;
  readonly scratch: MakeScratch;
  readonly onProgress: (progress: ProgressBook) => void;
}

/** What a conversion job works on. */
export interface ConvertJob {
  readonly task: ConversionTask;
  readonly rule: ConversionRule;
  readonly name: ResultName;
  /** What the rule converts to. */
  readonly format: ConvertFormat;
  readonly source: ImageSource;
}

/** Layers of one image that are worked on at once. */
const PARALLEL_LAYERS = 2;
/** Conversions of one job while its tag goes on moving. */
const MAX_TURNS = 3;

/**
 * Converts what the tag points at. If the tag moves meanwhile, the result is not put in place, or is replaced at once: the
 * newest wins. @throws {CodedError} `CONFLICT` if it does not stand still, what the cluster and the registry throw
 */
export async function convert(
  deps: ConvertDeps,
  job: ConvertJob,
  signal: AbortSignal,
): Promise<ConversionOutcome> {
  const { task, rule, source } = job;
  let top = await manifestOrNone(source, task.tag, signal);
  for (let turn = 0; turn < MAX_TURNS; turn += 1) {
    if (top === undefined) return sourceGone(task);
    const reason = await whyNotASource(source, top, rule, signal);
    if (reason !== undefined) return skipped(reason);
    const outcome = await convertOnce(deps, job, top, signal);
    const now = await manifestOrNone(source, task.tag, signal);
    if (outcome !== undefined && now?.digest === top.digest) return outcome;
    top = now;
  }
  throw new CodedError('CONFLICT', {
    message: `${task.repository}:${task.tag} moves faster than it is converted`,
  });
}

/** Undefined if the tag moved before the result was put in place. */
async function convertOnce(
  deps: ConvertDeps,
  { task, rule, name, format, source }: ConvertJob,
  top: Document,
  signal: AbortSignal,
): Promise<ConversionOutcome | undefined> {
  const registry = deps.registryOf(task.upstream);
  const isReferrer = rule.result === 'referrer';
  const { referrers, lost } = await attachedTo(deps.proxies, { task, source }, top, signal);
  const before = isReferrer
    ? referrers.map((one) => one.digest)
    : [await registry.use(async (client) => await client.headManifest(name.repository, name.tag, signal))];
  const prioritized = rule.profile ? await recordedStart(deps.proxies, task, top.digest, signal) : [];
  const progress = new ProgressBook();
  const target = registryTarget(registry, name.repository, { refersToSource: isReferrer });
  const moved = new CodedError('CONFLICT', { message: `${task.repository}:${task.tag} moved` });
  const guarded: ImageTarget = {
    ...target,
    putManifest: async (document, tag) => {
      const isLast = tag !== undefined;
      if (isLast && (await manifestOrNone(source, task.tag, signal))?.digest !== top.digest) throw moved;
      await target.putManifest(document, tag, signal);
    },
  };
  const report = {
    layer: (
      layer: { readonly digest: string },
      phase: 'pull' | 'convert' | 'push',
      done: number,
      of: number,
    ) => {
      progress.note(layer.digest, phase, of === 0 ? 1 : done / of);
      deps.onProgress(progress);
    },
    layerDone: (layer: { readonly digest: string }) => {
      progress.note(layer.digest, 'done', 1);
      deps.onProgress(progress);
    },
  };
  let result: ConvertResult;
  try {
    const { cache, packer, scratch, largeLayers } = deps;
    const heard = heardBy(source, (document) => progress.heard(document));
    result = await convertImage(
      { source: heard, target: guarded, cache, packer, scratch, largeLayers, report, signal },
      top.digest,
      {
        ...layerDefaults(format),
        ...(rule.level === undefined ? {} : { level: rule.level }),
        platforms: rule.platforms,
        prioritized,
        tag: isReferrer ? undefined : name.tag,
        form: rule.result,
        parallel: PARALLEL_LAYERS,
      },
    );
  } catch (error) {
    if (error === moved) return undefined;
    if (isNothingWanted(error)) return skipped(error.message);
    throw error;
  }
  const { digest } = result.result;
  return {
    ...outcomeOf(result),
    outcome: before.includes(digest) ? 'unchanged' : 'converted',
    target: `${registry.host}/${name.repository}${isReferrer ? `@${digest}` : `:${name.tag}`}`,
    ...(lost.length === 0 ? {} : { lost }),
  };
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

/** The end of a task whose source is not there. */
export function sourceGone({ repository, tag }: ConversionTask): ConversionOutcome {
  return { ...skipped(`${repository}:${tag} is gone`), isSourceGone: true };
}

/** The outcome of an image that is left as it is; `reason`: in words, for whoever reads the job. */
export function skipped(reason: string): ConversionOutcome {
  return { outcome: 'skipped', reason };
}
