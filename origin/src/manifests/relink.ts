import type { Digest } from '@sepia/base/digest';
import type { RepositoryName } from '@sepia/base/names/repository';
import { parseServedManifest } from '@sepia/oci/manifest';
import { closureOf } from '../fence/closure.ts';
import type { ContentGuard } from '../fence/content-guard.ts';
import type { Links } from '../records/links.ts';
import { keepLinked } from '../records/missing-links.ts';
import type { Referrers } from '../records/referrers.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import { descriptorLinks, requireLinks } from './manifest-push.ts';
import type { Manifests } from './manifests.ts';

interface RelinkDeps {
  readonly manifests: Pick<Manifests, 'get'>;
  readonly links: Links;
  readonly referrers: Pick<Referrers, 'note'>;
  readonly upstreams: Upstreams;
  readonly guard: Pick<ContentGuard, 'using'>;
}

/**
 * Runs `work`, which points something at a manifest that is here; of mode none it and all below it is linked anew and
 * noted under its subject, as by a push. `signal`: aborted when nobody waits any more: another origin may have done it, and a
 * delete taken it since. @throws `MANIFEST_UNKNOWN`, `MANIFEST_BLOB_MISSING`, `CONTENT_SWEPT`, `QUORUM_LOST`, its reason
 */
export async function relink(
  { manifests, links, referrers, upstreams, guard }: RelinkDeps,
  name: { readonly upstream: string; readonly repository: RepositoryName },
  digest: Digest,
  work: () => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const { bytes, mediaType } = await manifests.get(name, { kind: 'digest', digest }, 'ask');
  if (!upstreams.takesDeletes(name.upstream)) return await work();
  const read = async (shard: typeof name, child: Digest) =>
    await manifests.get(shard, { kind: 'digest', digest: child }, 'ask');
  const parsed = parseServedManifest(bytes, mediaType);
  const below = await closureOf(read, name, parsed.descriptors);
  const all = [{ digest, sizeBytes: bytes.length, mediaType }, ...below];
  await guard.using(
    all.map((one) => ({ ...name, digest: one.digest })),
    async () => {
      await requireLinks(links, name, all);
      signal?.throwIfAborted();
      const linked = all.map((one) => one.digest);
      const write = async () => {
        await links.write(descriptorLinks(name, all));
        await referrers.note({ ...name, digest }, bytes.length, parsed);
      };
      await keepLinked(links, name, linked, { write, point: work });
    },
  );
}
