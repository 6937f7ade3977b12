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
