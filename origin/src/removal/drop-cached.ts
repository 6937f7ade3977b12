import type { Digest } from '@sepia/base/digest';
import type { BlobStore } from '@sepia/store/blob-store';
import type { BlobAttrs, Provenance } from '@sepia/store/sidecar';

/**
 * Takes a cached copy away that `place` alone brought; of one that others brought too only the place. True if it is gone.
 * By what the copy is at that moment: a push makes it one that stays, whatever it was when somebody looked.
 */
export async function dropCached(
  store: Pick<BlobStore, 'deleteUnless' | 'setAttrs'>,
  place: Provenance,
  digest: Digest,
  isMeant: (attrs: BlobAttrs) => boolean = () => true,
): Promise<boolean> {
  const others = ({ provenance }: BlobAttrs): readonly Provenance[] =>
    provenance.filter(
      ({ upstream, repository }) => upstream !== place.upstream || repository !== place.repository,
    );
  const isCached = (attrs: BlobAttrs): boolean => attrs.class === 'cached' && isMeant(attrs);
  const stays = (attrs: BlobAttrs | undefined): boolean =>
    attrs === undefined || !isCached(attrs) || others(attrs).length > 0;
  if ((await store.deleteUnless(digest, stays)) > 0) return true;
  await store.setAttrs(digest, (attrs) => {
    const left = others(attrs);
    const isLess = left.length > 0 && left.length < attrs.provenance.length;
    return isLess && isCached(attrs) ? { ...attrs, provenance: left } : attrs;
  });
  return false;
}
