import { isCoded } from '@sepia/base/errors';
import { logFailure, throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { matcherOf } from '@sepia/base/names/pattern';
import { isRepositoryName, isTag } from '@sepia/base/names/repository';
import type { Cluster } from '@sepia/cluster/cluster';
import type { ConversionRule } from '@sepia/cluster/conversion-rule';
import { readDocument, sourceOf } from '@sepia/lazy/convert/documents';
import { resultName } from './core/result-name.ts';
import { isIndexed } from './indexing/run-index.ts';
import { clusterSource } from './net/cluster-source.ts';
import type { LayerRecords } from './net/layer-records.ts';
import { type Proxies, upstreamHeader } from './net/proxies.ts';
import type { QueueClient } from './net/queue-client.ts';

interface ScanDeps {
  readonly cluster: Cluster;
  readonly proxies: Proxies;
  readonly queue: QueueClient;
  readonly records: LayerRecords;
  readonly log: Logger;
  /** A number from 0 up to 1. */
  readonly chance: () => number;
}

const CALL_MS = 60_000;
const MAX_LIST_BYTES = 16 * 1024 * 1024;
const PAGE = 1_000;
/** Pages of one list. */
const MAX_PAGES = 1_000;

/**
 * Looks at every tag that a rule names and puts into the queue what no webhook told: tags that moved, images from before
 * the rule. It asks the cluster for repositories, so a repository that nobody ever pulled or pushed here is not seen.
 * @returns how many tasks were put in
 */
export async function scanOnce(deps: ScanDeps, signal: AbortSignal): Promise<number> {
  let added = 0;
  for (const rule of deps.cluster.document.conversions) {
    const isWanted = matcherOf(rule.repositories);
    for await (const repository of listed(deps, rule.from, '/v2/_catalog', 'repositories', signal)) {
      if (!isRepositoryName(repository) || !isWanted(repository)) continue;
      added += await scanRepository(deps, rule, repository, signal);
    }
  }
  return added;
}

async function scanRepository(
  deps: ScanDeps,
  rule: ConversionRule,
  repository: string,
  signal: AbortSignal,
): Promise<number> {
  const isWanted = rule.tags === undefined ? () => true : matcherOf(rule.tags);
  const tags: string[] = [];
  for await (const tag of listed(deps, rule.from, `/v2/${repository}/tags/list`, 'tags', signal))
    tags.push(tag);
  let added = 0;
  for (const tag of tags) {
    signal.throwIfAborted();
    const isResult = rule.to !== 'index' && rule['tag-suffix'] !== '' && tag.endsWith(rule['tag-suffix']);
    if (!isTag(tag) || isResult || !isWanted(tag)) continue;
    if (await isUpToDate(deps, rule, repository, tag, signal)) continue;
    await deps.queue.add({
      kind: rule.to === 'index' ? 'index' : 'convert',
      rule: rule.name,
      upstream: rule.from,
      repository,
      tag,
    });
    added += 1;
  }
  return added;
}

/** True if the result there was made from what the tag points at, or there can be none. */
async function isUpToDate(
  deps: ScanDeps,
  rule: ConversionRule,
  repository: string,
  tag: string,
  signal: AbortSignal,
): Promise<boolean> {
  const name = resultName(rule, repository, tag);
  if (rule.to !== 'index' && 'wrong' in name) return true;
  try {
    const from = clusterSource(deps.proxies, { upstream: rule.from, repository });
    if (rule.to === 'index' || 'wrong' in name) {
      const place = { upstream: rule.from, repository, tag };
      return await isIndexed({ source: from, records: deps.records }, place, rule, signal);
    }
    const source = await from.manifest(tag, signal);
    const parsed = readDocument(source.bytes, source.mediaType);
    if (parsed.kind === 'other' || sourceOf(parsed.json) !== undefined) return true;
    const target = clusterSource(deps.proxies, { upstream: rule.from, repository: name.repository });
    const result = await target.manifest(name.tag, signal);
    const made = readDocument(result.bytes, result.mediaType);
    return made.kind !== 'other' && sourceOf(made.json) === source.digest;
  } catch (error) {
    if (!isCoded(error)) throw error;
    // Gone or silent: the job finds out which.
    if (error.facts.status === 404 || error.facts.retryable) return false;
    throw error;
  }
}

/** Names of a paged list of the distribution API. */
async function* listed(
  { proxies }: ScanDeps,
  upstream: string,
  path: string,
  key: 'repositories' | 'tags',
  signal: AbortSignal,
): AsyncGenerator<string> {
  let last = '';
  for (let page = 0; page < MAX_PAGES; page += 1) {
    const query = new URLSearchParams({ n: String(PAGE), ...(last === '' ? {} : { last }) }).toString();
    const { bytes } = await proxies.bytes(
      {
        method: 'GET',
        path: `${path}?${query}`,
        headers: upstreamHeader(upstream),
        headersTimeoutMs: CALL_MS,
        signal,
      },
      MAX_LIST_BYTES,
    );
    const names = (JSON.parse(bytes.toString('utf8')) as Record<string, unknown>)[key];
    if (!Array.isArray(names) || names.length === 0) return;
    for (const name of names) if (typeof name === 'string') yield name;
    const next = String(names.at(-1));
    if (names.length < PAGE || next === last) return;
    last = next;
  }
}

/** Scans now and then, until `signal`; the first time after a part of the pause, so that accelerators do not scan at once. */
export async function scanForever(deps: ScanDeps, everyMs: number, signal: AbortSignal): Promise<void> {
  for (let pauseMs = everyMs * 0.1 * deps.chance(); ; pauseMs = everyMs * (0.9 + 0.2 * deps.chance())) {
    try {
      await delay(pauseMs, signal);
      const added = await scanOnce(deps, signal);
      if (added > 0) deps.log.info({ added }, 'a scan found images to convert');
    } catch (error) {
      if (signal.aborted) return throwIfBug(error);
      logFailure(deps.log, error, 'scan for images to convert was not finished');
    }
  }
}
