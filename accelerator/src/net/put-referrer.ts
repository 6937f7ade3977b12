import { type Digest, digestAlgorithm, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { type Document, documentOf } from '@sepia/lazy/convert/documents';
import { parseObject } from '@sepia/lazy/convert/lossless-json';
import { isIndexType, OCI_INDEX, parseManifest } from '@sepia/oci/manifest';
import { type ReferrerEntry, referrersTag } from '@sepia/upstream/referrer-list';
import type { ResultRegistry } from './result-registries.ts';

/** Writes of one list, while others write it too. */
const MAX_TURNS = 4;

/**
 * Stores a manifest beside its subject. Where the registry does not say that it will list it, it is put into the list that
 * stands under a tag there (distribution-spec, "Referrers Tag Schema"): what others wrote into that stays. No registry
 * compares before it sets a tag, so the list is read again until ours is in it, and whatever was seen in it before: another
 * who writes may have read it too early. What stood there only between our read and our write nobody has seen: it is lost.
 * @throws {CodedError} `CONFLICT` if it never is, `METHOD_UNSUPPORTED` where the tag is no list; what the registry answers
 */
export async function putReferrer(
  { use, host }: Pick<ResultRegistry, 'use' | 'host'>,
  repository: string,
  { document, entry, subject }: Referrer,
  signal: AbortSignal,
): Promise<void> {
  await use(async (client) => {
    if ((await client.putManifest(repository, document.digest, document, signal)) === subject) return;
    const tag = referrersTag(subject);
    const seen = new Map<unknown, unknown>();
    for (let turn = 0; turn < MAX_TURNS; turn += 1) {
      const known = await client.readManifest(repository, tag, signal);
      const place = `${host}/${repository}:${tag}`;
      // Some registries read such a tag as the digest.
      if (known !== undefined && digestOf(known, digestAlgorithm(subject)) === subject)
        throw new CodedError('METHOD_UNSUPPORTED', {
          message: `${place} is the image itself, no list of referrers`,
        });
      const list = listWith(known, entry, seen, place);
      if (list === undefined) return;
      await client.putManifest(repository, tag, list, signal);
    }
    throw new CodedError('CONFLICT', {
      message: `${host}/${repository}:${tag} is written by others again and again`,
    });
  });
}

/** A manifest that names a subject, and how a list of referrers names it. */
interface Referrer {
  readonly document: Document;
  readonly entry: ReferrerEntry;
  readonly subject: Digest;
}

/** A manifest as a referrer. @throws {CodedError} `MANIFEST_SYNTAX` */
export function referrerOf(document: Document): Referrer {
  const { digest, bytes } = document;
  const { mediaType, artifactType, annotations, subject } = parseManifest(bytes, document.mediaType);
  if (subject === undefined) throw new TypeError('the manifest names no subject');
  const entry = {
    ...{ mediaType, digest, size: bytes.length },
    ...(artifactType === undefined ? {} : { artifactType }),
    ...(annotations === undefined ? {} : { annotations }),
  };
  return { document, entry, subject };
}

/** The list with this entry and those in `seen` behind the others, which are seen from now on; undefined where it has all. */
function listWith(
  known: Buffer | undefined,
  entry: ReferrerEntry,
  seen: Map<unknown, unknown>,
  place: string,
): Document | undefined {
  const json = known === undefined ? { schemaVersion: 2, mediaType: OCI_INDEX } : parseObject(known);
  const manifests: unknown = json?.['manifests'] ?? [];
  const type = json?.['mediaType'] ?? OCI_INDEX;
  if (json === undefined || !Array.isArray(manifests) || typeof type !== 'string' || !isIndexType(type))
    throw new CodedError('METHOD_UNSUPPORTED', { message: `${place} is no list of referrers` });
  const there = new Map((manifests as unknown[]).map((one) => [digestIn(one), one]));
  const wanted = new Map([...seen, [entry.digest, entry]]);
  const lacking = [...wanted].filter(([digest]) => !there.has(digest));
  for (const [digest, one] of there) if (digest !== undefined) seen.set(digest, one);
  if (lacking.length === 0) return undefined;
  return documentOf(
    { ...json, manifests: [...(manifests as unknown[]), ...lacking.map(([, one]) => one)] },
    type,
  );
}

function digestIn(entry: unknown): unknown {
  return (entry as { readonly digest?: unknown } | null)?.digest;
}
