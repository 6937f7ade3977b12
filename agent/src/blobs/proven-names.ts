import type { Digest } from '@sepia/base/digest';
import type { BlobName } from '@sepia/base/names/blob-name';
import { shardKey } from '@sepia/cluster/cluster';

/** The names (upstream, repository) under which blobs that are on their way were asked for at the cluster. */
export class ProvenNames {
  readonly #names = new Map<Digest, Set<string>>();

  add(name: BlobName): void {
    let names = this.#names.get(name.digest);
    if (names === undefined) {
      names = new Set();
      this.#names.set(name.digest, names);
    }
    names.add(shardKey(name.upstream, name.repository));
  }

  /** A name is being proven for what is on its way now. What is returned notes it, unless that has ended meanwhile. */
  proving({ digest, upstream, repository }: BlobName): () => void {
    const names = this.#names.get(digest);
    return () => void names?.add(shardKey(upstream, repository));
  }

  has(name: BlobName): boolean {
    return this.#names.get(name.digest)?.has(shardKey(name.upstream, name.repository)) === true;
  }

  /** True if it was asked for under another repository of the upstream. */
  hasUpstream({ digest, upstream }: BlobName): boolean {
    return [...(this.#names.get(digest) ?? [])].some((key) => key.startsWith(`${upstream}\n`));
  }

  /** The blob is not on its way any more. */
  forget(digest: Digest): void {
    this.#names.delete(digest);
  }
}
