import { CodedError } from '@sepia/base/errors';
import type { Logger } from '@sepia/base/log';
import { BY_HAND, type ConversionOutcome, type ConversionTask } from '@sepia/cluster/api/conversions';
import type { Cluster } from '@sepia/cluster/cluster';
import type { ConversionRule } from '@sepia/cluster/conversion-rule';
import { INDEX_ARTIFACT } from '@sepia/lazy/artifact/index-artifact';
import { type ConvertDeps, convert, skipped, sourceGone } from './converting/convert.ts';
import { ProgressBook } from './converting/core/progress-book.ts';
import { resultName } from './converting/core/result-name.ts';
import { remove } from './converting/remove.ts';
import { heardBy, isGone } from './converting/sources.ts';
import { Offers } from './indexing/offers.ts';
import { publish } from './indexing/publish.ts';
import { runIndex } from './indexing/run-index.ts';
import { clusterSource } from './net/cluster-source.ts';
import type { LayerRecords } from './net/layer-records.ts';
import { referrersOf } from './net/lists.ts';

interface RunTaskDeps extends ConvertDeps {
  readonly cluster: Cluster;
  readonly records: LayerRecords;
  /** Free bytes of the disk that `scratch` is on. */
  readonly freeBytes: () => Promise<number>;
  readonly clusterKey: Uint8Array;
  /** Id of this accelerator. */
  readonly memberId: string;
  readonly nowMs: () => number;
  readonly log: Logger;
}

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
  // Of a later version: it waits for an accelerator that knows it.
  if (task.kind !== 'convert' && task.kind !== 'remove')
    throw new CodedError('MEMBER_BUSY', {
      message: `this version does not know the task "${String(task.kind)}": upgrade all accelerators`,
    });
  if (rule === undefined) return skipped(`the rule ${task.rule} is not in the cluster document`);
  const name = resultName(rule, task.repository, task.tag);
  if ('wrong' in name) return skipped(name.wrong);
  if (rule.to === 'index') return skipped(`the rule ${task.rule} makes indexes and converts nothing`);
  const job = { task, rule, name, format: rule.to, source: clusterSource(deps.proxies, task) };
  return task.kind === 'convert' ? await convert(deps, job, signal) : await remove(deps, job, signal);
}

async function index(
  deps: RunTaskDeps,
  task: ConversionTask,
  rule: ConversionRule | undefined,
  signal: AbortSignal,
): Promise<ConversionOutcome> {
  if (rule?.to !== 'index' && task.rule !== BY_HAND)
    return skipped(`the rule ${task.rule} is not in the cluster document`);
  const progress = new ProgressBook();
  const source = heardBy(clusterSource(deps.proxies, task), (document) => progress.heard(document));
  const onProgress = (): void => deps.onProgress(progress);
  const { clusterKey, memberId, records, nowMs, scratch, freeBytes, largeLayers, proxies, log } = deps;
  const referrers = async (digest: string, abort: AbortSignal) =>
    await referrersOf(proxies, task, digest, abort, INDEX_ARTIFACT);
  const offers = new Offers({ source, referrers, log });
  const publishing: Parameters<typeof publish>[0] | undefined = rule?.['push-index']
    ? {
        registry: deps.registryOf(task.upstream),
        repository: task.repository,
        sourceAt: (home) => clusterSource(proxies, home),
        referrers,
      }
    : undefined;
  try {
    return await runIndex(
      {
        ...{
          source,
          scratch,
          freeBytes,
          largeLayers,
          records,
          clusterKey,
          memberId,
          nowMs,
          progress,
          onProgress,
          offers,
        },
        ...(publishing === undefined
          ? {}
          : { publish: async (image, bindings, abort) => await publish(publishing, image, bindings, abort) }),
      },
      task,
      rule,
      signal,
    );
  } catch (error) {
    if (!isGone(error)) throw error;
    return sourceGone(task);
  }
}
