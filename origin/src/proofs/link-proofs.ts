import { SingleFlight } from '@sepia/base/async/single-flight';
import { CodedError } from '@sepia/base/errors';
import { LatestMap } from '@sepia/base/latest-map';
import { type BlobName, linkKey } from '@sepia/base/names/blob-name';
import { LINK_BELIEF_MS } from '@sepia/cluster/core/link-ledger';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import type { BlobStore } from '@sepia/store/blob-store';
import type { Provenance } from '@sepia/store/sidecar';
import type { Others } from '../cluster/others.ts';
import { PROOF_MS } from '../deadlines/upstreams.ts';
import { upstreamError } from '../upstream/upstream-failure.ts';
import { Deliveries, type DeliveriesDeps, type Kind } from './deliveries.ts';

/** Names that the upstream confirmed while nothing was stored by which to remember it. */
const MAX_CONFIRMED = 20_000;

interface LinkProofsDeps extends DeliveriesDeps {
  readonly store: BlobStore;
}

/** Bytes that are here: the names that they came under, and their type if it is known. */
export interface Held {
  readonly provenance: readonly Provenance[];
  readonly mediaType?: string | undefined;
}

/**
 * In pull-through a link only says that a manifest of the repository names the digest, and anybody who may push to that
 * upstream writes manifests. Bytes that came here under another name are served under this one only after the upstream
 * itself showed that this repository has them; their provenance remembers it. What it showed: for a repository of an
 * upstream that sent these bytes before, that it answers for it there; for bytes that only others sent, all of them
 * ({@link Deliveries}).
 */
export class LinkProofs {
  readonly #deps: LinkProofsDeps;
  readonly #deliveries: Deliveries;
  readonly #confirmed = new LatestMap<string, true>(MAX_CONFIRMED);
  /** Until when names are believed whose link a push made, in ms: it had the bytes. Each look at the link renews it. */
  readonly #pushed = new LatestMap<string, number>(MAX_CONFIRMED);
  readonly #asking = new SingleFlight<string, void>();

  constructor(deps: LinkProofsDeps) {
    this.#deps = deps;
    this.#deliveries = new Deliveries(deps);
  }

  stop(): void {
    this.#deliveries.stop();
  }

  /** May bytes that came from `provenance` be served under this name? Once true, it stays so until {@link forget}. */
  isProven(name: BlobName, provenance: readonly Provenance[]): boolean {
    if (this.#deps.upstreams.client(name.upstream) === undefined) return true;
    if ((this.#pushed.get(linkKey(name)) ?? 0) > this.#deps.nowMs()) return true;
    if (provenance.some((one) => one.upstream === name.upstream && one.repository === name.repository))
      return true;
    return this.#confirmed.has(linkKey(name)) && this.#deliveries.has(name, provenance);
  }

  /** The upstream confirmed that this repository has the blob. */
  note = (name: BlobName): void => {
    this.#confirmed.set(linkKey(name), true);
  };

  /** Its link is there, and says by `pushed` that a push made it: who pushes has the bytes. */
  noteLink(name: BlobName, link: { readonly pushed?: boolean | undefined } | undefined): void {
    if (link?.pushed === true) this.#pushed.set(linkKey(name), this.#deps.nowMs() + LINK_BELIEF_MS.lasting);
  }

  /** The upstream sent the bytes of a blob under this name: that is a proof of the link. */
  noteDelivered(name: BlobName): void {
    this.note(name);
    this.#deliveries.note(name);
  }

  /** A repository no longer has the blob: drops what was confirmed. */
  forget(name: Readonly<Record<'upstream' | 'repository' | 'digest', string>>): void {
    this.#confirmed.delete(linkKey(name));
    this.#pushed.delete(linkKey(name));
  }

  /**
   * Resolves when what is held may be served under this name; asks the upstream if need be, once for all that wait.
   * @throws `BLOB_UNKNOWN`, `MANIFEST_UNKNOWN`, `BACKEND_DOWN` and the like; as `Deliveries.require`
   */
  async require(name: BlobName, held: Held, signal: AbortSignal, others: Others = 'ask'): Promise<void> {
    if (this.isProven(name, held.provenance)) return;
    // What was stored as a manifest has its type, known or not.
    const kind = held.mediaType === undefined ? 'blob' : 'manifest';
    if (!this.#deliveries.has(name, held.provenance)) {
      await this.#deliveries.require(name, kind, others, signal);
      await this.#remember(name);
      return;
    }
    const confirm = async (unwanted: AbortSignal): Promise<void> => await this.#confirm(name, kind, unwanted);
    await this.#asking.share(linkKey(name), confirm, signal);
  }

  /**
   * Resolves when bytes may be fetched for this name. Where a backend has those of all repositories of a registry, that must
   * have shown first that it has them in this one, to who brings `authorization` where there is one. @throws as {@link require}
   */
  async requireShown(name: BlobName, signal: AbortSignal, authorization?: string): Promise<void> {
    const key = linkKey(name);
    if (!this.#deps.upstreams.isBacked(name.upstream) || this.#confirmed.has(key)) return;
    if (this.isProven(name, [])) return;
    const confirm = async (unwanted: AbortSignal): Promise<void> =>
      await this.#confirm(name, 'blob', unwanted, authorization);
    if (authorization === undefined) await this.#asking.share(key, confirm, signal);
    else await confirm(signal);
  }

  /** As {@link require}, for another origin that holds the bytes. */
  async requireFor(name: BlobName, kind: Kind, signal: AbortSignal): Promise<void> {
    const provenance = (await this.#deps.store.stat(name.digest))?.attrs.provenance ?? [];
    await this.require(
      name,
      { provenance, mediaType: kind === 'manifest' ? OCI_MANIFEST : undefined },
      signal,
      'skip',
    );
  }

  async #confirm(name: BlobName, kind: Kind, unwanted: AbortSignal, authorization?: string): Promise<void> {
    const client = this.#deps.upstreams.client(name.upstream, authorization);
    if (client === undefined) throw new CodedError('BLOB_UNKNOWN', { detail: { digest: name.digest } });
    const { upstream, repository, digest } = name;
    const late = AbortSignal.timeout(PROOF_MS);
    try {
      if (kind === 'manifest')
        await client.headManifest({ repository, reference: { kind: 'digest', digest }, unwanted }, late);
      else await client.headBlob({ repository, digest, unwanted }, late);
    } catch (error) {
      if (error === unwanted.reason) throw error;
      throw upstreamError(error, upstream);
    }
    await this.#remember(name);
  }

  async #remember(name: BlobName): Promise<void> {
    const { upstream, repository, digest } = name;
    this.note(name);
    await this.#deps.store.addProvenance(digest, { upstream, repository });
  }
}
