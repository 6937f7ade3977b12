import { isCoded } from '@sepia/base/errors';
import type { ConversionOutcome } from '@sepia/cluster/api/conversions';
import { type Document, readDocument, SOURCE_ANNOTATION, sourceOf } from '@sepia/lazy/convert/documents';
import { clusterSource } from '../net/cluster-source.ts';
import { listed, referrersOf } from '../net/lists.ts';
import { type ConvertDeps, type ConvertJob, skipped } from './convert.ts';
import { manifestOrNone } from './sources.ts';

type Deps = Pick<ConvertDeps, 'proxies' | 'registryOf'>;

/** Tags that are looked at before a manifest goes with all of its tags. */
const MAX_TAGS = 1_000;

/** Takes a result away whose source is gone; what is no result, or whose source is back, stays. */
export async function remove(deps: Deps, job: ConvertJob, signal: AbortSignal): Promise<ConversionOutcome> {
  const { task, rule, name, source } = job;
  if (rule.result === 'referrer') return await removeReferrers(deps, job, signal);
  if ((await manifestOrNone(source, task.tag, signal)) !== undefined)
    return skipped('the source is there again');
  const there = clusterSource(deps.proxies, { upstream: task.upstream, repository: name.repository });
  const result = await manifestOrNone(there, name.tag, signal);
  if (result === undefined) return skipped('there is no result');
  if (madeFrom(result) === undefined)
    return skipped(`${name.repository}:${name.tag} is not a result of a conversion`);
  const { host } = deps.registryOf(task.upstream);
  const reason = await removeTag(deps, job, result.digest, signal);
  if (reason !== undefined) return { ...skipped(reason), stays: true };
  return { outcome: 'removed', target: `${host}/${name.repository}:${name.tag}`, digest: result.digest };
}

/** The digest of the source of a result; undefined for other documents. */
export function madeFrom(document: Document): string | undefined {
  const parsed = readDocument(document.bytes, document.mediaType);
  return parsed.kind === 'other' ? undefined : sourceOf(parsed.json);
}

/** Harbor deletes manifests only, with all of their tags: that is done where no other tag has it. @returns why not */
async function removeTag(
  { registryOf, proxies }: Deps,
  { task, name }: ConvertJob,
  digest: string,
  signal: AbortSignal,
): Promise<string | undefined> {
  const { use } = registryOf(task.upstream);
  const { repository, tag } = name;
  try {
    await use(async (client) => await client.deleteManifest(repository, tag, signal));
    return undefined;
  } catch (error) {
    if (!isCoded(error, 'METHOD_UNSUPPORTED')) throw error;
  }
  const list = { path: `/v2/${repository}/tags/list`, key: 'tags' } as const;
  let looked = 0;
  for await (const other of listed(proxies, task.upstream, list, signal)) {
    if (other === tag) continue;
    looked += 1;
    if (looked > MAX_TAGS)
      return `the registry deletes no single tag, and ${repository} has too many to look at`;
    if ((await use(async (client) => await client.headManifest(repository, other, signal))) === digest)
      return `the registry deletes no single tag, and ${repository}:${other} has the same result`;
  }
  await use(async (client) => await client.deleteManifest(repository, digest, signal));
  return undefined;
}

/** Most registries take referrers away with their subject; this is for those that do not. */
async function removeReferrers(
  { registryOf, proxies }: Deps,
  { task, rule, name, source }: ConvertJob,
  signal: AbortSignal,
): Promise<ConversionOutcome> {
  const { digest } = task;
  if (digest === undefined) return skipped('the event names no digest; referrers belong to one');
  if ((await manifestOrNone(source, digest, signal)) !== undefined)
    return skipped(`the source ${digest} is still there`);
  const { use, host } = registryOf(task.upstream);
  const results = (await referrersOf(proxies, task, digest, signal)).filter(
    (one) => one.annotations?.[SOURCE_ANNOTATION] === digest,
  );
  for (const one of results)
    await use(async (client) => await client.deleteManifest(name.repository, one.digest, signal));
  const [first] = results;
  if (first === undefined) return skipped(`there is no result of ${rule.name}`);
  return { outcome: 'removed', target: `${host}/${name.repository}@${first.digest}`, digest: first.digest };
}
