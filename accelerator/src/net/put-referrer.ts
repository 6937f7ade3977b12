import type { Digest } from '@sepia/base/digest';
import type { Document } from '@sepia/lazy/convert/documents';
import { parseManifest } from '@sepia/oci/manifest';
import type { ReferrerEntry } from '@sepia/upstream/referrers/referrer-list';
import { listReferrer } from '@sepia/upstream/referrers/referrers-by-tag';
import type { ResultRegistry } from './result-registries.ts';

/**
 * Stores a manifest beside its subject. Where the registry does not say that it will list it, it is put into the list that
 * stands under a tag there. @throws {CodedError} as `listReferrer`; what the registry answers
 */
export async function putReferrer(
  { use }: Pick<ResultRegistry, 'use'>,
  repository: string,
  { document, entry, subject }: Referrer,
  signal: AbortSignal,
): Promise<void> {
  await use(async (client) => {
    if ((await client.putManifest(repository, document.digest, document, signal)) === subject) return;
    await listReferrer(client, { repository, subject }, entry, signal);
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
