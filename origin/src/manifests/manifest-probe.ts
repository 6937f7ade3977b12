import type { Digest } from '@sepia/base/digest';
import type { RepositoryName } from '@sepia/base/names/repository';
import type { Reference } from '@sepia/oci/route';
import type { Authorizer } from '@sepia/upstream/authenticator';
import type { ManifestQuery } from '@sepia/upstream/queries';
import type { UpstreamClient } from '@sepia/upstream/upstream-client';
import type { Links } from '../records/links.ts';
import { isQuorumProblem, type Tags } from '../records/tags.ts';
import type { Manifests } from './manifests.ts';

interface ProbeDeps {
  readonly tags: Tags;
  readonly links: Links;
  readonly manifests: Pick<Manifests, 'keep' | 'moveTag'>;
}

interface Name {
  readonly upstream: string;
  readonly repository: RepositoryName;
}

/**
 * Asks the upstream for a manifest in somebody's name and keeps what it answers, so that the pull that follows asks
 * for nothing again. @throws what the upstream says
 */
export async function probeManifest(
  deps: ProbeDeps,
  client: UpstreamClient,
  name: Name,
  query: ManifestQuery & { readonly as: Authorizer },
  signal: AbortSignal,
): Promise<void> {
  const { manifests, links } = deps;
  const { reference } = query;
  const seenMs = links.seenMs();
  const tag = reference.kind === 'tag' ? { ...name, tag: reference.tag } : undefined;
  const known = await onRecord(deps, name, reference);
  const seen = { seenMs, knownMs: known?.checkedAtMs };
  if (known !== undefined) {
    const head = await client.headManifest(query, signal);
    if (head.digest === known.digest) {
      if (tag !== undefined) await manifests.moveTag(tag, known.digest, seen);
      return;
    }
  }
  const manifest = await client.getManifest(query, signal);
  await manifests.keep(name, manifest, seenMs);
  if (tag !== undefined) await manifests.moveTag(tag, manifest.digest, seen);
}

/** A manifest that is on record, of a tag with its last check; undefined where the upstream has to be asked for it. */
async function onRecord(
  deps: ProbeDeps,
  name: Name,
  reference: Reference,
): Promise<{ readonly digest: Digest; readonly checkedAtMs?: number } | undefined> {
  try {
    if (reference.kind === 'tag') return await deps.tags.read({ ...name, tag: reference.tag });
    return await deps.links.find({ ...name, digest: reference.digest });
  } catch (error) {
    if (isQuorumProblem(error)) return undefined;
    throw error;
  }
}
