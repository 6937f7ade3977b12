import { type Digest, digestOf, isDigest } from '@sepia/base/digest';
import { ExpiringMap } from '@sepia/base/expiring-map';
import { PULL_MS } from '../../deadlines.ts';
import type { Labels } from './table.ts';

const MAX_GRANTS = 20_000;

interface GrantedLayer {
  readonly digest: Digest;
  readonly diffId: Digest;
}

/** Labels that containerd's clients put on a Prepare. */
export const LABEL = {
  /** Name under which a layer that is there must be committed: its chain ID. */
  ref: 'containerd.io/snapshot.ref',
  layer: 'containerd.io/snapshot/cri.layer-digest',
  manifest: 'containerd.io/snapshot/cri.manifest-digest',
} as const;

/**
 * Layers that may be shown to a pull: those of an image all of whose layers are proven and that this node's agent
 * served a moment ago. Pure: time is passed in, in ms.
 */
export class Grants {
  readonly #granted = new ExpiringMap<Digest>(MAX_GRANTS);
  /** Layers of each image, by its manifest. */
  readonly #images = new ExpiringMap<readonly GrantedLayer[]>(MAX_GRANTS);

  /** All layers of an image, with the diffIDs that records say. */
  add(manifest: string, layers: readonly GrantedLayer[], nowMs: number): void {
    this.#images.set(manifest, layers, nowMs + PULL_MS);
    for (const { digest, diffId } of layers)
      this.#granted.set(keyOf(manifest, digest), diffId, nowMs + PULL_MS);
  }

  /**
   * DiffID of the layer that a Prepare means; undefined where the pull is ordinary: no labels, nothing proven, or a
   * chain ID that is not made of the parent's and this diffID.
   */
  diffIdFor(labels: Labels, parentChain: string | undefined, nowMs: number): Digest | undefined {
    const { [LABEL.ref]: ref, [LABEL.layer]: layer, [LABEL.manifest]: manifest } = labels;
    if (ref === undefined || layer === undefined || manifest === undefined) return undefined;
    const diffId = this.#granted.get(keyOf(manifest, layer), nowMs);
    if (diffId === undefined || ref !== chainId(parentChain, diffId)) return undefined;
    // The pull goes on: its other layers are granted for as long again.
    const layers = this.#images.get(manifest, nowMs);
    if (layers !== undefined) this.add(manifest, layers, nowMs);
    return diffId;
  }
}

/** Chain ID of a layer on what it stands on (OCI image spec, "Layer ChainID"). */
export function chainId(parent: string | undefined, diffId: Digest): string {
  if (parent === undefined) return diffId;
  return digestOf(Buffer.from(`${parent} ${diffId}`));
}

/** Chain ID that a committed snapshot was named by: the last part of its name. */
export function chainOf(name: string): string | undefined {
  const last = name.slice(name.lastIndexOf('/') + 1);
  return isDigest(last) ? last : undefined;
}

function keyOf(manifest: string, layer: string): string {
  return `${manifest} ${layer}`;
}
