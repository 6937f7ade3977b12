import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { ignoreFailure } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import type { ImageTarget } from '@sepia/lazy/convert/ends';
import { parseManifest } from '@sepia/oci/manifest';
import type { TargetClient } from '@sepia/upstream/target-client';
import type { ResultRegistry } from './result-registries.ts';

const NEVER = new AbortController().signal;
/** Blobs whose repository at the target is remembered, for mounts. */
const MAX_PLACES = 20_000;

/** Where blobs are at one registry: digest to repository. The oldest go first. */
export class Places {
  readonly #places = new LatestMap<Digest, string>(MAX_PLACES);

  get(digest: Digest): string | undefined {
    return this.#places.get(digest);
  }

  note(digest: Digest, repository: string): void {
    this.#places.set(digest, repository);
  }
}

/** A repository of a registry as the target of a conversion; what another of its repositories has is mounted. */
export function registryTarget(
  { use, places, host }: Omit<ResultRegistry, 'close'>,
  repository: string,
  options: {
    /** Documents name a subject: a registry that does not heed it is of no use. */
    readonly refersToSource?: boolean;
  } = {},
): ImageTarget {
  const mountOf = (digest: Digest): { readonly digest: Digest; readonly from: string } | undefined => {
    const from = places.get(digest);
    return from === undefined || from === repository ? undefined : { digest, from };
  };
  /** Also where it could be mounted. */
  const isHere = async (client: TargetClient, digest: Digest, signal: AbortSignal): Promise<boolean> => {
    if (await client.hasBlob(repository, digest, signal)) return true;
    const mount = mountOf(digest);
    if (mount === undefined) return false;
    const begun = await client.begin(repository, mount, signal);
    if (begun.type === 'mounted') return true;
    // What was not mounted is an upload, which nobody goes on with.
    await client.cancel(repository, begun.url, signal).catch(ignoreFailure);
    return false;
  };
  return {
    has: async (digest, _sizeBytes, signal = NEVER) => {
      const found = await use(async (client) => await isHere(client, digest, signal));
      if (found) places.note(digest, repository);
      return found;
    },
    putBlob: async ({ digest, sizeBytes, open }, signal = NEVER) => {
      await use(async (client) => {
        if (await client.hasBlob(repository, digest, signal)) return;
        const begun = await client.begin(repository, mountOf(digest), signal);
        if (begun.type === 'session')
          await client.upload({ repository, digest, sizeBytes, open }, begun.url, signal);
      });
      places.note(digest, repository);
    },
    putManifest: async (document, tag, signal = NEVER) => {
      const subject = await use(
        async (client) => await client.putManifest(repository, tag ?? document.digest, document, signal),
      );
      if (options.refersToSource !== true) return;
      const named = parseManifest(document.bytes, document.mediaType).subject;
      if (named !== undefined && subject !== named)
        throw new CodedError('METHOD_UNSUPPORTED', {
          message: `${host} does not list referrers; give the rule another result than referrer`,
        });
    },
  };
}
