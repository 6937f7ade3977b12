import type { ConversionProgress } from '@sepia/cluster/api/conversions';
import { type Document, platformText, readDocument } from '@sepia/lazy/convert/documents';

type LayerProgress = ConversionProgress['layers'][number];

/** Platforms that are told of one layer, and how much of a name: an index may say anything. */
const MAX_PLATFORMS = 4;
const MAX_PLATFORM_CHARS = 32;

/** Shares of the layers of one image, as a queue keeps them: bounded, in the order in which they began. */
export class ProgressBook {
  readonly #layers = new Map<string, Pick<LayerProgress, 'phase' | 'share'>>();
  /** Of manifests, by the index that names them, and of the layers that those name. */
  readonly #platformOf = new Map<string, string>();
  readonly #platforms = new Map<string, Set<string>>();

  /** A manifest that was read, an index before its children. @throws {CodedError} `MANIFEST_SYNTAX` */
  heard({ bytes, digest, mediaType }: Document): void {
    const document = readDocument(bytes, mediaType);
    if (document.kind === 'index')
      for (const child of document.children) {
        const platform = platformText(child)?.slice(0, MAX_PLATFORM_CHARS);
        if (platform !== undefined && platform !== '') this.#platformOf.set(child.digest, platform);
      }
    const platform = this.#platformOf.get(digest);
    if (document.kind !== 'image' || platform === undefined) return;
    for (const layer of document.layers) {
      const known = this.#platforms.get(layer.digest) ?? new Set();
      if (known.size < MAX_PLATFORMS) this.#platforms.set(layer.digest, known.add(platform));
    }
  }

  note(digest: string, phase: LayerProgress['phase'], share: number): void {
    const rounded = Math.round(Math.min(1, Math.max(0, share)) * 100) / 100;
    this.#layers.set(digest, { phase, share: Number.isFinite(rounded) ? rounded : 0 });
  }

  /** At most `limit` layers: those that are not done first. */
  view(limit = 100): ConversionProgress['layers'] {
    const all = [...this.#layers];
    const isOver = ([, { phase }]: (typeof all)[number]): boolean => phase === 'done';
    const shown = [...all.filter((one) => !isOver(one)), ...all.filter(isOver)].slice(0, limit);
    return shown.map(([digest, { phase, share }]) => {
      const platforms = this.#platforms.get(digest);
      return { digest, phase, share, ...(platforms === undefined ? {} : { platforms: [...platforms] }) };
    });
  }
}
