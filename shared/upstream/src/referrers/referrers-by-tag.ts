import { type Digest, digestAlgorithm, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { parseObject } from '@sepia/base/json/lossless-json';
import { isIndexType, OCI_INDEX } from '@sepia/oci/manifest';
import { type ReferrerEntry, referrersTag } from './referrer-list.ts';

/** Writes of one list, while others write it too. */
const MAX_TURNS = 4;

/** What a list is read and written by, as a `TargetClient` does. */
interface ListClient {
  readonly host: string;
  readManifest(repository: string, reference: string, signal: AbortSignal): Promise<Buffer | undefined>;
  putManifest(repository: string, reference: string, list: List, signal: AbortSignal): Promise<unknown>;
}

/** Whose list it is. */
interface ListName {
  readonly repository: string;
  readonly subject: Digest;
}

interface List {
  readonly bytes: Buffer;
  readonly mediaType: string;
}

/**
 * Puts a manifest into the list of its subject's referrers that stands under a tag, where a registry does not list them itself
 * (distribution-spec, "Referrers Tag Schema"): what others wrote into that stays. No registry compares before it sets a tag, so
 * the list is read again until ours is in it, and whatever was seen in it before: another who writes may have read it too early.
 * What stood there only between our read and our write nobody has seen: it is lost.
 * @throws {CodedError} `CONFLICT` if it never is, `METHOD_UNSUPPORTED` where the tag is no list; what the registry answers
 */
export async function listReferrer(
  client: ListClient,
  name: ListName,
  entry: ReferrerEntry,
  signal: AbortSignal,
): Promise<void> {
  await listReferrers(client, name, [entry], signal);
}

/** As {@link listReferrer}, of several at once. @throws as {@link listReferrer} */
export async function listReferrers(
  client: ListClient,
  name: ListName,
  entries: readonly ReferrerEntry[],
  signal: AbortSignal,
): Promise<void> {
  const seen = new Map<unknown, unknown>();
  await edit(client, name, (known) => withEntries(known, entries, seen), signal);
}

/** Takes a manifest that goes out of that list; the others stay. Nothing where there is no list. @throws as {@link listReferrer} */
export async function unlistReferrer(
  client: ListClient,
  name: ListName,
  digest: Digest,
  signal: AbortSignal,
): Promise<void> {
  await edit(client, name, (known) => without(known, digest), signal);
}

/** Reads and writes until `change` has nothing to change. */
async function edit(
  client: ListClient,
  { repository, subject }: ListName,
  change: (known: ParsedList | undefined) => List | undefined,
  signal: AbortSignal,
): Promise<void> {
  const tag = referrersTag(subject);
  const place = `${client.host}/${repository}:${tag}`;
  for (let turn = 0; turn < MAX_TURNS; turn += 1) {
    const known = await client.readManifest(repository, tag, signal);
    // Some registries read such a tag as the digest.
    if (known !== undefined && digestOf(known, digestAlgorithm(subject)) === subject)
      throw new CodedError('METHOD_UNSUPPORTED', {
        message: `${place} is the image itself, no list of referrers`,
      });
    const list = change(known === undefined ? undefined : listIn(known, place));
    if (list === undefined) return;
    await client.putManifest(repository, tag, list, signal);
  }
  throw new CodedError('CONFLICT', { message: `${place} is written by others again and again` });
}

interface ParsedList {
  readonly json: Readonly<Record<string, unknown>>;
  readonly type: string;
  readonly manifests: readonly unknown[];
}

function listIn(bytes: Buffer, place: string): ParsedList {
  const json = parseObject(bytes);
  const manifests: unknown = json?.['manifests'] ?? [];
  const type = json?.['mediaType'] ?? OCI_INDEX;
  if (json === undefined || !Array.isArray(manifests) || typeof type !== 'string' || !isIndexType(type))
    throw new CodedError('METHOD_UNSUPPORTED', { message: `${place} is no list of referrers` });
  return { json, type, manifests };
}

/** The list with these entries and those in `seen` behind the others, which are seen from now on; undefined where it has all. */
function withEntries(
  known: ParsedList | undefined,
  entries: readonly ReferrerEntry[],
  seen: Map<unknown, unknown>,
): List | undefined {
  const list = known ?? {
    json: { schemaVersion: 2, mediaType: OCI_INDEX },
    type: OCI_INDEX,
    manifests: [],
  };
  const there = new Map(list.manifests.map((one) => [digestIn(one), one]));
  const wanted = new Map<unknown, unknown>([...seen, ...entries.map((one) => [one.digest, one] as const)]);
  const lacking = [...wanted].filter(([digest]) => !there.has(digest));
  for (const [digest, one] of there) if (digest !== undefined) seen.set(digest, one);
  if (lacking.length === 0) return undefined;
  return listOf(list, [...list.manifests, ...lacking.map(([, one]) => one)]);
}

function without(known: ParsedList | undefined, digest: Digest): List | undefined {
  const left = known?.manifests.filter((one) => digestIn(one) !== digest);
  if (known === undefined || left?.length === known.manifests.length) return undefined;
  return listOf(known, left ?? []);
}

function listOf({ json, type }: ParsedList, manifests: readonly unknown[]): List {
  return { bytes: Buffer.from(JSON.stringify({ ...json, manifests })), mediaType: type };
}

function digestIn(entry: unknown): unknown {
  return (entry as { readonly digest?: unknown } | null)?.digest;
}
