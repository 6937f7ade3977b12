import { CodedError } from '@sepia/base/errors';
import { isManifestType } from '@sepia/oci/manifest';
import type { BlobStore, Provenance } from '@sepia/store/blob-store';
import type { BlobName } from '../fetch/fetch-parts.ts';
import { upstreamError } from '../upstream/upstream-failure.ts';
import type { Upstreams } from '../upstream/upstreams.ts';

const ASK_MS = 15_000;
/** Names that the upstream confirmed while nothing was stored by which to remember it. */
const MAX_CONFIRMED = 20_000;

interface LinkProofsDeps {
  readonly store: BlobStore;
  readonly upstreams: Upstreams;
}

/**
 * In pull-through a link only says that a manifest of the repository names the digest, and anybody who may push to that
 * upstream writes manifests. Bytes that came here under another name are served under this one only after the upstream
 * itself, asked once, said that this repository has them; their provenance remembers it.
 */
export class LinkProofs {
  readonly #deps: LinkProofsDeps;
  readonly #confirmed = new Set<string>();
  readonly #asking = new Map<string, Promise<void>>();

  constructor(deps: LinkProofsDeps) {
    this.#deps = deps;
  }

  /** Must bytes that came from `provenance` be asked for before they are served under this name? */
  isProven(name: BlobName, provenance: readonly Provenance[]): boolean {
    return (
      this.#deps.upstreams.client(name.upstream) === undefined ||
      this.#confirmed.has(keyOf(name)) ||
      provenance.some((one) => one.upstream === name.upstream && one.repository === name.repository)
    );
  }

  /** The upstream was heard to have it in this repository. */
  note(name: BlobName): void {
    const key = keyOf(name);
    this.#confirmed.delete(key);
    this.#confirmed.add(key);
    if (this.#confirmed.size > MAX_CONFIRMED) this.#confirmed.delete(this.#confirmed.values().next().value!);
  }

  /** A repository does not have it any more. */
  forget(name: Readonly<Record<'upstream' | 'repository' | 'digest', string>>): void {
    this.#confirmed.delete(keyOf(name));
  }

  /** For what is stored here, if anything. @throws as {@link ask} */
  async requireStored(name: BlobName, signal: AbortSignal): Promise<void> {
    const stat = await this.#deps.store.stat(name.digest);
    if (stat === undefined || this.isProven(name, stat.attrs.provenance)) return;
    await this.ask(name, stat.attrs.mediaType, signal);
  }

  /** Asks the upstream, once for all that wait. @throws `BLOB_UNKNOWN`, `MANIFEST_UNKNOWN`, `BACKEND_DOWN` and the like */
  async ask(name: BlobName, mediaType: string | undefined, signal: AbortSignal): Promise<void> {
    if (this.isProven(name, [])) return;
    const key = keyOf(name);
    let asking = this.#asking.get(key);
    if (asking === undefined) {
      asking = this.#ask(name, mediaType).finally(() => this.#asking.delete(key));
      this.#asking.set(key, asking);
    }
    await asking;
    signal.throwIfAborted();
  }

  async #ask(name: BlobName, mediaType: string | undefined): Promise<void> {
    const { store, upstreams } = this.#deps;
    const client = upstreams.client(name.upstream);
    if (client === undefined) throw new CodedError('BLOB_UNKNOWN', { detail: { digest: name.digest } });
    const { upstream, repository, digest } = name;
    const late = AbortSignal.timeout(ASK_MS);
    try {
      if (isManifestType(mediaType ?? ''))
        await client.headManifest({ repository, reference: { kind: 'digest', digest } }, late);
      else await client.headBlob({ repository, digest }, late);
    } catch (error) {
      throw upstreamError(error, upstream);
    }
    this.note(name);
    await store.addProvenance(digest, { upstream, repository });
  }
}

function keyOf({
  upstream,
  repository,
  digest,
}: Readonly<Record<'upstream' | 'repository' | 'digest', string>>): string {
  return `${upstream}\n${repository}\n${digest}`;
}
