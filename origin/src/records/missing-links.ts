import type { Digest } from '@sepia/base/digest';
import type { RepositoryName } from '@sepia/base/names/repository';
import type { Links } from './links.ts';

/** As many as an error names; the search ends there. */
const ENOUGH = 5;

/** The first few of `digests` that are not linked to the repository, in their order. @throws `QUORUM_LOST` */
export async function missingLinks(
  links: Pick<Links, 'findMany'>,
  name: { readonly upstream: string; readonly repository: RepositoryName },
  digests: readonly Digest[],
): Promise<Digest[]> {
  const missing: Digest[] = [];
  let seen = 0;
  for await (const found of links.findMany(name, digests)) {
    for (const link of found) {
      const digest = digests[seen++]!;
      if (link === undefined) missing.push(digest);
      if (missing.length >= ENOUGH) return missing;
    }
  }
  return missing;
}

/**
 * Runs `write`, which links `digests` to the repository, and then `point`, which makes something lead to them. Where a
 * delete took a link meanwhile, it is written again: a delete looks for what leads there once more after its
 * tombstone, so that of two that cross at least one sees the other. @throws `QUORUM_LOST`, what the two fail with
 */
export async function keepLinked<T>(
  links: Pick<Links, 'findMany'>,
  name: { readonly upstream: string; readonly repository: RepositoryName },
  digests: readonly Digest[],
  { write, point }: { readonly write: () => Promise<void>; readonly point: () => Promise<T> },
): Promise<T> {
  await write();
  const pointed = await point();
  if ((await missingLinks(links, name, [...new Set(digests)])).length > 0) await write();
  return pointed;
}
