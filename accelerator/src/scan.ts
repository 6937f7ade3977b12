import { isCoded } from '@sepia/base/errors';
import { logFailure, outcomeOf, throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { notePass } from '@sepia/base/metrics';
import { matcherOf } from '@sepia/base/names/pattern';
import { isRepositoryName, isTag } from '@sepia/base/names/repository';
import type { ConversionTask } from '@sepia/cluster/api/conversions';
import type { Cluster } from '@sepia/cluster/cluster';
import type { ConversionRule } from '@sepia/cluster/conversion-rule';
import { ConversionRules } from '@sepia/cluster/conversion-rules';
import { Settled } from '@sepia/cluster/core/settled-conversions';
import { INDEX_ARTIFACT } from '@sepia/lazy/artifact/index-artifact';
import {
  annotationsOf,
  type Document,
  FORMAT_ANNOTATION,
  OPTIONS_ANNOTATION,
  readDocument,
  SOURCE_ANNOTATION,
} from '@sepia/lazy/convert/documents';
import { optionsMark } from '@sepia/lazy/convert/options-mark';
import { resultName } from './converting/core/result-name.ts';
import { sourceOfResult } from './converting/core/result-source.ts';
import { madeFrom } from './converting/remove.ts';
import { isGone, manifestOrNone, whyNotASource } from './converting/sources.ts';
import { FULL_AGAIN_MS } from './deadlines.ts';
import { isIndexed } from './indexing/run-index.ts';
import { clusterSource } from './net/cluster-source.ts';
import type { LayerRecords } from './net/layer-records.ts';
import { listed, referrersOf } from './net/lists.ts';
import type { Proxies } from './net/proxies.ts';
import type { QueueClient } from './net/queue-client.ts';

interface ScanDeps {
  readonly cluster: Cluster;
  readonly proxies: Proxies;
  readonly queue: Pick<QueueClient, 'addFound' | 'list'>;
  readonly records: LayerRecords;
  readonly log: Logger;
  /** A number from 0 up to 1. */
  readonly chance: () => number;
  /** The clock that jobs are dated by. */
  readonly dateMs: () => number;
}

/** Most refusals of one scan that are logged one by one. */
const MAX_LOGGED = 20;

/** Looks at one thing at a time: what is refused of it ends nothing but that. */
class Looks {
  refused = 0;
  /** Tasks that found no place in the queue. */
  full = 0;
  readonly #log: Logger;

  constructor(log: Logger) {
    this.#log = log;
  }

  /**
   * What `look` added; 0 if its answer was a refusal, which is counted and logged with `facts`.
   * @throws silence, a bug, and what may go well at another time: they are no fault of this one
   */
  async at(facts: Readonly<Record<string, unknown>>, look: () => Promise<number>): Promise<number> {
    try {
      return await look();
    } catch (error) {
      if (!isCoded(error) || error.facts.retryable || outcomeOf(error) !== 'refusal') throw error;
      this.refused += 1;
      if (this.refused <= MAX_LOGGED) logFailure(this.#log, error, 'a scan could not look at this', facts);
      return 0;
    }
  }

  /**
   * Puts a task into the queue. 1 if it is new there; 0 if the queue has it, has settled it since this scan began, or is full
   * (as a whole or for this project: other tasks may still have places).
   */
  async put(add: () => Promise<{ readonly isNew: boolean }>): Promise<number> {
    try {
      return (await add()).isNew ? 1 : 0;
    } catch (error) {
      if (!isCoded(error, 'OVERLOADED')) throw error;
      this.full += 1;
      return 0;
    }
  }
}

/** Result of a scan: tasks added to the queue, and tasks for which it had no place. */
interface Scanned {
  readonly added: number;
  readonly full: number;
}

/**
 * Looks at every tag that a rule names and puts into the queue what no webhook told: tags that moved, images from before
 * the rule, results whose source is gone. It asks the cluster for repositories, so a repository that nobody ever pulled or
 * pushed here is not seen. What is refused of a repository or tag, as a manifest that is not valid, is logged and left out;
 * so is, silently, a source whose job was cancelled or is dead since less than an hour, and a result that could not be taken away.
 */
export async function scanOnce(deps: ScanDeps, signal: AbortSignal): Promise<Scanned> {
  const { conversions } = deps.cluster.document;
  const rules = new ConversionRules(conversions);
  const looks = new Looks(deps.log);
  const settled = new Settled(await deps.queue.list(), deps.dateMs());
  let added = 0;
  for (const upstream of new Set(conversions.map((rule) => rule.from))) {
    const list = { path: '/v2/_catalog', key: 'repositories' } as const;
    for await (const repository of listed(deps.proxies, upstream, list, signal)) {
      if (!isRepositoryName(repository)) continue;
      const place = { upstream, repository };
      added += await looks.at(place, () => scanRepository({ ...deps, settled }, looks, rules, place, signal));
    }
  }
  if (looks.refused > 0)
    deps.log.warn({ refused: looks.refused }, 'a scan could not look at some repositories or tags');
  return { added, full: looks.full };
}

interface Repository {
  readonly upstream: string;
  readonly repository: string;
}

async function scanRepository(
  deps: ScanDeps & { readonly settled: Settled },
  looks: Looks,
  rules: ConversionRules,
  place: Repository,
  signal: AbortSignal,
): Promise<number> {
  const { conversions } = deps.cluster.document;
  const own = conversions.filter((rule) => rule.from === place.upstream);
  const isSource = own.some((rule) => matcherOf(rule.repositories)(place.repository));
  const mayHoldResults = own.filter((rule) => rule['delete-with-source'] && rule.to !== 'index');
  if (!isSource && mayHoldResults.length === 0) return 0;
  const tags = await tagsOf(deps, place, signal);
  let added = 0;
  for (const tag of isSource ? tags : []) {
    signal.throwIfAborted();
    for (const task of rules.tasksOf({ kind: 'push', ...place, tag })) {
      const rule = own.find((one) => one.name === task.rule)!;
      added += await looks.at({ ...place, tag, rule: rule.name }, async () => {
        const lack = await lackOf(deps, rule, task, signal);
        const wanted = { ...task, ...lack };
        if (lack === undefined || deps.settled.has(wanted)) return 0;
        return await looks.put(async () => await deps.queue.addFound(wanted));
      });
    }
  }
  for (const rule of mayHoldResults) added += await scanResults(deps, looks, rule, place, tags, signal);
  return added;
}

/** Results in this repository whose source tag is not there any more. */
async function scanResults(
  deps: ScanDeps & { readonly settled: Settled },
  looks: Looks,
  rule: ConversionRule,
  place: Repository,
  tags: ReadonlySet<string>,
  signal: AbortSignal,
): Promise<number> {
  let sourceTags: ReadonlySet<string> | undefined;
  let added = 0;
  for (const tag of tags) {
    signal.throwIfAborted();
    const source = sourceOfResult(rule, place.repository, tag);
    if (source === undefined) continue;
    const from = { upstream: place.upstream, repository: source.repository };
    sourceTags ??= source.repository === place.repository ? tags : await tagsOf(deps, from, signal);
    const task = { kind: 'remove', rule: rule.name, ...from, tag: source.tag } as const;
    if (sourceTags.has(source.tag) || deps.settled.has(task)) continue;
    added += await looks.at({ ...place, tag, rule: rule.name }, async () => {
      const result = await manifestOrNone(clusterSource(deps.proxies, place), tag, signal);
      if (result === undefined || madeFrom(result) === undefined) return 0;
      return await looks.put(async () => await deps.queue.addFound(task));
    });
  }
  return added;
}

async function tagsOf(
  { proxies }: ScanDeps,
  { upstream, repository }: Repository,
  signal: AbortSignal,
): Promise<ReadonlySet<string>> {
  const tags = new Set<string>();
  const list = { path: `/v2/${repository}/tags/list`, key: 'tags' } as const;
  try {
    for await (const tag of listed(proxies, upstream, list, signal)) if (isTag(tag)) tags.add(tag);
  } catch (error) {
    if (!isGone(error)) throw error;
  }
  return tags;
}

/**
 * What a task lacks. Undefined if the result was made by the present rule from what the tag points at, or if there can be
 * none; else the digest that the tag points at, where that is known.
 */
async function lackOf(
  deps: ScanDeps,
  rule: ConversionRule,
  task: ConversionTask,
  signal: AbortSignal,
): Promise<Pick<ConversionTask, 'digest'> | undefined> {
  const { upstream, repository, tag } = task;
  try {
    const from = clusterSource(deps.proxies, { upstream, repository });
    if (rule.to === 'index') {
      const { records } = deps;
      const referrers = async (digest: string, abort: AbortSignal) =>
        await referrersOf(deps.proxies, task, digest, abort, INDEX_ARTIFACT);
      const parts = { source: from, records, referrers };
      const isThere = await isIndexed(parts, { upstream, repository, tag }, rule, signal);
      return isThere ? undefined : { digest: (await from.manifest(tag, signal)).digest };
    }
    const name = resultName(rule, repository, tag);
    if ('wrong' in name) return undefined;
    const source = await from.manifest(tag, signal);
    const isMade =
      rule.result === 'referrer'
        ? await hasReferrer(deps, rule, task, source, signal)
        : await hasResult(deps, rule, { upstream, ...name }, source, signal);
    // Asked last: of an index it reads every child.
    const isDone = isMade || (await whyNotASource(from, source, rule, signal)) !== undefined;
    return isDone ? undefined : { digest: source.digest };
  } catch (error) {
    if (!isCoded(error)) throw error;
    // Gone or silent: the job finds out which.
    if (error.facts.status === 404 || error.facts.retryable) return {};
    throw error;
  }
}

async function hasResult(
  { proxies }: ScanDeps,
  rule: ConversionRule,
  at: Repository & { readonly tag: string },
  source: Document,
  signal: AbortSignal,
): Promise<boolean> {
  const result = await manifestOrNone(clusterSource(proxies, at), at.tag, signal);
  if (result === undefined) return false;
  const parsed = readDocument(result.bytes, result.mediaType);
  return parsed.kind !== 'other' && isMadeBy(rule, source, annotationsOf(parsed.json));
}

async function hasReferrer(
  deps: ScanDeps,
  rule: ConversionRule,
  task: ConversionTask,
  source: Document,
  signal: AbortSignal,
): Promise<boolean> {
  return (await referrersOf(deps.proxies, task, source.digest, signal)).some(({ annotations }) =>
    isMadeBy(rule, source, annotations ?? {}),
  );
}

/** Did the rule, as it is now, make a result that says this of itself, and of this source? */
function isMadeBy(
  rule: ConversionRule,
  { digest }: Document,
  marks: Readonly<Record<string, string>>,
): boolean {
  if (rule.to === 'index') return false;
  const { to: format, level, platforms, result: form } = rule;
  return (
    marks[SOURCE_ANNOTATION] === digest &&
    marks[FORMAT_ANNOTATION] === format &&
    marks[OPTIONS_ANNOTATION] === optionsMark({ format, level, platforms, form })
  );
}

/** Scans now and then, until `signal`; the first time after a part of the pause, so that accelerators do not scan at once. */
export async function scanForever(deps: ScanDeps, everyMs: number, signal: AbortSignal): Promise<void> {
  let nextMs = everyMs;
  for (let pauseMs = everyMs * 0.1 * deps.chance(); ; pauseMs = nextMs * (0.9 + 0.2 * deps.chance())) {
    nextMs = everyMs;
    let beganMs = performance.now();
    try {
      await delay(pauseMs, signal);
      beganMs = performance.now();
      const { added, full } = await scanOnce(deps, signal);
      if (full > 0) nextMs = Math.min(everyMs, FULL_AGAIN_MS);
      notePass('scan', { isFailed: false, tookMs: performance.now() - beganMs });
      if (added + full > 0) deps.log.info({ added, full }, 'a scan found images to convert');
    } catch (error) {
      if (signal.aborted) return throwIfBug(error);
      notePass('scan', { isFailed: true, tookMs: performance.now() - beganMs });
      logFailure(deps.log, error, 'scan for images to convert was not finished');
    }
  }
}
