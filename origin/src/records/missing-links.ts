import type { Digest } from '@sepia/base/digest';
import type { RepositoryName } from '@sepia/base/names/repository';
import type { Links } from './links.ts';

/** Links that are looked up at once for one manifest: a manifest of thousands of entries must not fill every queue. */
const AT_ONCE = 32;
/** As many as an error names; the search ends there. */
const ENOUGH = 5;

/** The first few of `digests` that are not linked to the repository, in their order. @throws `QUORUM_LOST` */
export async function missingLinks(
  links: Pick<Links, 'find'>,
  name: { readonly upstream: string; readonly repository: RepositoryName },
  digests: readonly Digest[],
): Promise<Digest[]> {
  const missing: Digest[] = [];
  for (let at = 0; at < digests.length && missing.length < ENOUGH; at += AT_ONCE) {
    const some = digests.slice(at, at + AT_ONCE);
    const found = await Promise.all(
      some.map(async (digest) => await links.find({ ...name, digest }, { fresh: true })),
    );
    missing.push(...some.filter((_, index) => found[index] === undefined));
  }
  return missing.slice(0, ENOUGH);
}
