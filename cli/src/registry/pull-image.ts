import { fewAtOnce } from '@sepia/base/async/few-at-once';
import { isCoded } from '@sepia/base/errors';
import type { Descriptor } from '@sepia/oci/manifest';
import { isIndexType, isKnownType, parseServedManifest } from '@sepia/oci/manifest';
import type { PulledManifest, RegistryClient } from './registry-client.ts';

/** Blobs fetched at once, as containerd does. */
const PARALLEL = 3;
const MAX_DEPTH = 3;
const ARCHITECTURES: Readonly<Record<string, string>> = {
  x64: 'amd64',
  arm64: 'arm64',
  arm: 'arm',
  ia32: '386',
};

/** Manifests of an image, the asked one first, and every blob that they name. */
export interface ResolvedImage {
  readonly manifests: readonly PulledManifest[];
  readonly blobs: readonly Descriptor[];
}

/** Reads manifests down to this machine's platform; an index without it is read whole. @throws as {@link RegistryClient.pullManifest} */
export async function resolveImage(
  client: RegistryClient,
  repository: string,
  reference: string,
  signal?: AbortSignal,
): Promise<ResolvedImage> {
  const manifests: PulledManifest[] = [];
  const blobs = new Map<string, Descriptor>();
  const seen = new Set<string>();
  const visit = async (wanted: string, depth: number, child?: Descriptor): Promise<void> => {
    if (seen.has(wanted)) return;
    seen.add(wanted);
    const manifest = await client.pullManifest(repository, wanted, signal).catch((error: unknown) => {
      if (child === undefined || isKnownType(child.mediaType) || !isCoded(error, 'MANIFEST_UNKNOWN'))
        throw error;
      // What an index names by a type that nobody knows may be a blob.
      blobs.set(child.digest, child);
      return undefined;
    });
    if (manifest === undefined) return;
    manifests.push(manifest);
    const parsed = parseServedManifest(manifest.bytes, manifest.mediaType);
    for (const one of parsed.descriptors)
      if (one.kind !== 'child' && !one.foreign) blobs.set(one.digest, one);
    if (!isIndexType(parsed.mediaType) || depth >= MAX_DEPTH) return;
    const children = parsed.descriptors.filter((one) => one.kind === 'child');
    for (const child of ofThisPlatform(manifest.bytes, children)) await visit(child.digest, depth + 1, child);
  };
  await visit(reference, 0);
  return { manifests, blobs: [...blobs.values()] };
}

/** Runs `fetch` for every blob, three at a time; the first failure stops the rest. */
export async function eachBlob(
  blobs: readonly Descriptor[],
  fetch: (blob: Descriptor, signal: AbortSignal) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  await fewAtOnce(blobs, PARALLEL, fetch, signal);
}

function ofThisPlatform(bytes: Uint8Array, children: readonly Descriptor[]): readonly Descriptor[] {
  const raw = JSON.parse(new TextDecoder().decode(bytes)) as {
    manifests?: { digest: string; platform?: { os?: string; architecture?: string } }[];
  };
  const architecture = ARCHITECTURES[process.arch] ?? process.arch;
  const mine = new Set(
    raw.manifests
      ?.filter((one) => one.platform?.os === 'linux' && one.platform.architecture === architecture)
      .map((one) => one.digest),
  );
  const found = children.filter((child) => mine.has(child.digest));
  return found.length === 0 ? children : found;
}
