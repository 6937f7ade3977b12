import { type Digest, isDigest } from '@sepia/base/digest';
import { tryParse } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import type { ResolvedName } from '@sepia/base/names/upstream-name';
import { MAX_OFFER_LAYERS } from '@sepia/cluster/api/lazy-offers';
import { OCI_CONFIG, ociType } from '@sepia/lazy/convert/documents';
import { NYDUS_BOOTSTRAP_ANNOTATION } from '@sepia/lazy/convert/nydus-marks';
import { isTwofold } from './twofold.ts';

/** An image whose manifest passed through this agent to a client, with what its layers are. */
export interface PulledImage extends ResolvedName {
  readonly manifest: Digest;
  readonly config: Digest;
  readonly layers: readonly { readonly digest: Digest; readonly sizeBytes: number }[];
  /** A Nydus image by the marks of its last layer: no runtime unpacks it. */
  readonly isNydus: boolean;
  /** Why its readers may take it for another image than we do. */
  readonly doubt?: string;
}

const DESCRIPTOR = ['digest', 'mediatype', 'size', 'annotations'];
const WATCHED = {
  '': ['config', 'layers', 'mediatype'],
  config: DESCRIPTOR,
  'layers.*': DESCRIPTOR,
} as const;
/** Labels by which containerd's clients say which layer they mean: an image that brings them speaks for another. */
const CLIENTS_OWN = 'containerd.io/snapshot/cri.';
const STRING = /"(?:[^"\\]|\\.)*"/gs;
/** Digests of an odd manifest that are looked out for. */
const MAX_STRINGS = 10_000;

interface Part {
  readonly digest?: unknown;
  readonly size?: unknown;
  readonly mediaType?: unknown;
  readonly annotations?: Readonly<Record<string, unknown>> | null;
}

/** The images whose manifests passed lately, by the config that a client asks for next. The oldest go first. */
export class PulledImages {
  readonly #images: LatestMap<string, PulledImage>;

  constructor(limit = 1_000) {
    this.#images = new LatestMap(limit);
  }

  /** Reads a manifest as the most lenient client does: one that we cannot read must not pass unseen. */
  note(target: ResolvedName, manifest: { readonly digest: Digest; readonly bytes: Uint8Array }): void {
    const { upstream, repository } = target;
    const keep = (
      config: Digest,
      layers: PulledImage['layers'],
      doubt: string | undefined,
      isNydus = false,
    ): void => {
      const facts = { upstream, repository, manifest: manifest.digest, config, layers, isNydus };
      this.#images.set(keyOf(target, config), { ...facts, ...(doubt === undefined ? {} : { doubt }) });
    };
    const text = new TextDecoder().decode(manifest.bytes);
    const parsed = tryParse(() => JSON.parse(text) as { config?: Part | null; layers?: unknown } | null);
    if (!parsed.ok || parsed.value === null) return;
    if (isTwofold(text, WATCHED)) {
      const doubt = 'its manifest names config, layers or parts of them in two ways';
      for (const config of digestsIn(text)) keep(config, [], doubt);
      return;
    }
    const { config, layers } = parsed.value;
    if (typeof config?.digest !== 'string' || !isDigest(config.digest)) return;
    if (typeof config.mediaType !== 'string' || ociType(config.mediaType) !== OCI_CONFIG) return;
    if (!Array.isArray(layers) || layers.length === 0) return;
    const known = (layers as (Part | null)[]).flatMap((one) =>
      typeof one?.digest === 'string' && isDigest(one.digest) && typeof one.size === 'number'
        ? [{ digest: one.digest, sizeBytes: Math.max(0, Math.floor(one.size)) }]
        : [],
    );
    const marks = (layers as (Part | null)[]).at(-1)?.annotations ?? {};
    const isNydus = marks[NYDUS_BOOTSTRAP_ANNOTATION] !== undefined;
    keep(config.digest, known, doubtOf(layers, known.length), isNydus);
  }

  of(target: ResolvedName, config: Digest): PulledImage | undefined {
    return this.#images.get(keyOf(target, config));
  }
}

function doubtOf(layers: readonly (Part | null)[], known: number): string | undefined {
  if (known < layers.length) return 'its manifest has layers without a digest or a size';
  if (layers.length > MAX_OFFER_LAYERS) return `it has more than ${MAX_OFFER_LAYERS} layers`;
  const labels = layers.flatMap((one) => Object.keys(one?.annotations ?? {}));
  return labels.some((label) => label.startsWith(CLIENTS_OWN))
    ? `its layers carry labels (${CLIENTS_OWN}…) that only a client sets`
    : undefined;
}

function digestsIn(text: string): Set<Digest> {
  const found = new Set<Digest>();
  for (const [token] of text.matchAll(STRING)) {
    const value = JSON.parse(token) as string;
    if (isDigest(value)) found.add(value);
    if (found.size >= MAX_STRINGS) break;
  }
  return found;
}

function keyOf(target: ResolvedName, config: Digest): string {
  return JSON.stringify([target.upstream, target.repository, config]);
}
