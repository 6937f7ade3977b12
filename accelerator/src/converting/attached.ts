import type { Digest } from '@sepia/base/digest';
import type { ConversionTask } from '@sepia/cluster/api/conversions';
import { childImages, type Document, readDocument, SOURCE_ANNOTATION } from '@sepia/lazy/convert/documents';
import type { ImageSource } from '@sepia/lazy/convert/ends';
import type { ReferrerEntry } from '@sepia/upstream/referrers/referrer-list';
import { referrersOf } from '../net/lists.ts';
import type { Proxies } from '../net/proxies.ts';
import { cosignTags } from './core/cosign-tags.ts';
import { manifestOrNone } from './sources.ts';

/** Manifests of an index that are looked at for what is attached to them: four requests each. The rest is counted. */
const MAX_MANIFESTS = 200;
/** Lines that a job keeps of what is lost; a last one counts the others. */
const MAX_LOST = 50;
const MAX_TYPE = 120;

/** What is attached to a source. */
export interface Attached {
  /** What names the source itself as its subject: results of conversions too. */
  readonly referrers: readonly ReferrerEntry[];
  /** What will not be attached to the result, by type and place; it stays where it is. */
  readonly lost: readonly string[];
}

/**
 * Looks for what is attached to an image, to its index and to each of its manifests: as referrers, and under the tags of
 * cosign. It names the digest that it is about, so none of it holds for a result. @throws {CodedError} what the cluster throws
 */
export async function attachedTo(
  proxies: Proxies,
  { task, source }: { readonly task: ConversionTask; readonly source: ImageSource },
  top: Document,
  signal: AbortSignal,
): Promise<Attached> {
  const lost: string[] = [];
  const look = async (digest: Digest, of: string): Promise<ReferrerEntry[]> => {
    const referrers = await referrersOf(proxies, task, digest, signal);
    for (const one of referrers)
      if (one.annotations?.[SOURCE_ANNOTATION] === undefined) lost.push(`${typeOf(one)} ${one.digest}${of}`);
    for (const { tag, what } of cosignTags(digest))
      if ((await manifestOrNone(source, tag, signal)) !== undefined) lost.push(`${what} ${tag}${of}`);
    return referrers;
  };
  const referrers = await look(top.digest, '');
  const children = childImages(readDocument(top.bytes, top.mediaType));
  for (const child of children.slice(0, MAX_MANIFESTS)) await look(child.digest, ` of ${child.digest}`);
  const unseen = children.length - MAX_MANIFESTS;
  const shown = lost.slice(0, MAX_LOST);
  if (lost.length > shown.length) shown.push(`${lost.length - shown.length} more`);
  if (unseen > 0) shown.push(`what is attached to ${unseen} further manifests of the index: not looked at`);
  return { referrers, lost: shown };
}

function typeOf({ artifactType = 'unknown' }: ReferrerEntry): string {
  return artifactType.length <= MAX_TYPE ? artifactType : `${artifactType.slice(0, MAX_TYPE)}…`;
}
