import { join } from 'node:path';
import { type Digest, digestHex } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { EROFS_LAYOUT } from '@sepia/lazy/erofs/encode';
import type { FileToShow } from '../fuse/fuse-server.ts';
import type { AgentSource } from './agent-source.ts';
import { LazyLayer } from './lazy-layer.ts';

interface LayersDeps {
  readonly log: Logger;
  readonly source: Pick<AgentSource, 'read'>;
  readonly onFetched: (bytes: number) => void;
  readonly onComplete: (layer: LazyLayer) => void;
}

interface LayersOptions {
  /** Holds one folder per layer. */
  readonly dir: string;
  readonly bootId: string;
}

/** What is known of a layer here. */
export interface LayerStatus {
  readonly indexFile: string;
  /** Host and repository that it is read from. */
  readonly image: string;
  readonly layer: string | undefined;
  readonly diffId: string | undefined;
  readonly state: 'lazy' | 'complete' | 'hidden' | 'refused';
  /** Why it is refused or hidden. */
  readonly reason: string | undefined;
  readonly spans: number;
  readonly spansHere: number;
}

interface Known {
  readonly indexFile: string;
  readonly image: string;
  readonly layer: LazyLayer | undefined;
  readonly reason: string | undefined;
}

/** The layers of this node, by the names that the mount shows. */
export class Layers {
  readonly #deps: LayersDeps;
  readonly #options: LayersOptions;
  readonly #byName = new Map<string, LazyLayer>();
  readonly #status: Known[] = [];

  constructor(deps: LayersDeps, options: LayersOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  /**
   * Layers that may be shown: those of images of which no layer was refused. containerd downloads all layers above the
   * first that it does not find, so a part of an image is of no use.
   */
  shown(): LazyLayer[] {
    const refused = new Set(this.#status.filter((one) => one.layer === undefined).map((one) => one.image));
    return this.#status.flatMap(({ layer, image }) =>
      layer === undefined || refused.has(image) ? [] : [layer],
    );
  }

  /** Opens a layer from an index file; one that cannot be is noted with its reason, and the others go on. */
  async add(indexFile: string, image: string): Promise<LazyLayer | undefined> {
    const slash = image.indexOf('/');
    try {
      const layer = await LazyLayer.open(this.#deps, {
        dir: (diffId) => join(this.#options.dir, `${digestHex(diffId)}.${EROFS_LAYOUT}`),
        indexFile,
        host: image.slice(0, slash),
        repository: image.slice(slash + 1),
        bootId: this.#options.bootId,
      });
      this.#byName.set(fileNameOf(layer.index.diffId), layer);
      this.#status.push({ indexFile, image, layer, reason: undefined });
      return layer;
    } catch (error) {
      throwIfBug(error);
      const reason = (error as Error).message;
      this.#status.push({ indexFile, image, layer: undefined, reason });
      this.#deps.log.error({ err: error, indexFile }, 'a layer cannot be lazy');
      return undefined;
    }
  }

  /** The mount's files. */
  files(): FileToShow[] {
    return [...this.#byName].map(([name, layer]) => ({
      name,
      sizeBytes: layer.imageBytes,
      fd: layer.fd,
      blocks: layer.blocks,
    }));
  }

  /** @throws {CodedError} as `LazyLayer.read` */
  async read(name: string, offset: number, size: number): Promise<Buffer> {
    const layer = this.#byName.get(name);
    if (layer === undefined) throw new CodedError('BLOB_UNKNOWN', { detail: { name } });
    return await layer.read(offset, size);
  }

  status(): LayerStatus[] {
    const shown = new Set(this.shown());
    return this.#status.map(({ indexFile, image, layer, reason }) => ({
      indexFile,
      image,
      layer: layer?.index.layer,
      diffId: layer?.index.diffId,
      state: stateOf(layer, layer !== undefined && shown.has(layer)),
      reason:
        reason ??
        (layer === undefined || shown.has(layer) ? undefined : 'another layer of its image is refused'),
      spans: layer?.index.spans.length ?? 0,
      spansHere: layer?.presence.count ?? 0,
    }));
  }

  async close(): Promise<void> {
    await Promise.all([...this.#byName.values()].map((layer) => layer.close()));
  }
}

function stateOf(layer: LazyLayer | undefined, isShown: boolean): LayerStatus['state'] {
  if (layer === undefined) return 'refused';
  if (!isShown) return 'hidden';
  return layer.presence.isComplete ? 'complete' : 'lazy';
}

/**
 * The mount's name for a layer. The layout is part of it: a daemon that lays images out in another way must not go on
 * with what the kernel has read of the old one.
 */
export function fileNameOf(diffId: Digest): string {
  return `${digestHex(diffId)}.${EROFS_LAYOUT}.erofs`;
}
