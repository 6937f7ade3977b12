import type { ImageSource, ImageTarget } from '@sepia/lazy/convert/ends';
import { parseServedManifest } from '@sepia/oci/manifest';
import type { RegistryClient } from '../registry/registry-client.ts';

/** A repository of a registry as the source of a conversion. */
export function registrySource(client: RegistryClient, repository: string): ImageSource {
  return {
    manifest: async (reference, signal) => {
      const { bytes, digest, mediaType } = await client.pullManifest(repository, reference, signal);
      return { bytes, digest, mediaType: parseServedManifest(bytes, mediaType).mediaType };
    },
    blob: async (blob, take, signal) => await client.pullBlob(repository, blob, take, signal),
  };
}

/** A repository of a registry as the target of a conversion. */
export function registryTarget(client: RegistryClient, repository: string): ImageTarget {
  return {
    has: async (digest, _sizeBytes, signal) => await client.hasBlob(repository, digest, signal),
    putBlob: async (blob, signal) => void (await client.pushBlob(repository, blob, signal)),
    putManifest: async ({ bytes, digest, mediaType }, tag, signal) =>
      void (await client.pushManifest(repository, tag ?? digest, bytes, mediaType, signal)),
  };
}
