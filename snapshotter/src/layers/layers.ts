import { join } from 'node:path';
import { type Digest, digestHex } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { FileToShow } from '../fuse/fuse-server.ts';
import type { AgentSource } from './agent-source.ts';
import { LazyLayer } from './lazy-layer.ts';

interface LayersDeps {
  readonly log: Logger;
  readonly source: Pick<AgentSource, 'read'>;
  readonly onFetched: (bytes: number) => void;
}

interface LayersOptions {
  /** Holds one folder per layer. */
  readonly dir: string;
  readonly bootId: string;
}

/** What is known of a layer here. */
export interface LayerStatus {
  readonly indexFile: string;
  readonly layer: string | undefined;
  readonly diffId: string | undefined;
  readonly state: 'lazy' | 'complete' | 'refused';
  /** Why it is refused. */
  readonly reason: string | undefined;
  readonly spans: number;
  readonly spansHere: number;
}

/** The layers of this node, by the names that the mount shows. */
export class Layers {
  readonly #deps: LayersDeps;
  readonly #options: LayersOptions;
  readonly #byName = new Map<string, LazyLayer>();
  readonly #status: { indexFile: string; layer: LazyLayer | undefined; reason: string | undefined }[] = [];

  constructor(deps: LayersDeps, options: LayersOptions) {
    this.#deps = deps;
    this.#options = options;
  }

  /** Opens a layer from an index file; one that cannot be is noted with its reason, and the others go on. */
  async add(indexFile: string, image: string): Promise<LazyLayer | undefined> {
    const slash = image.indexOf('/');
    try {
      const layer = await LazyLayer.open(this.#deps, {
        dir: (diffId) => join(this.#options.dir, digestHex(diffId)),
        indexFile,
        host: image.slice(0, slash),
        repository: image.slice(slash + 1),
        bootId: this.#options.bootId,
      });
      this.#byName.set(fileNameOf(layer.index.diffId), layer);
      this.#status.push({ indexFile, layer, reason: undefined });
      return layer;
    } catch (error) {
      throwIfBug(error);
      const reason = (error as Error).message;
      this.#status.push({ indexFile, layer: undefined, reason });
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
    return this.#status.map(({ indexFile, layer, reason }) => ({
      indexFile,
      layer: layer?.index.layer,
      diffId: layer?.index.diffId,
      state: layer === undefined ? 'refused' : layer.presence.isComplete ? 'complete' : 'lazy',
      reason,
      spans: layer?.index.spans.length ?? 0,
      spansHere: layer?.presence.count ?? 0,
    }));
  }

  async close(): Promise<void> {
    await Promise.all([...this.#byName.values()].map((layer) => layer.close()));
  }
}

/** The mount's name for a layer. */
export function fileNameOf(diffId: Digest): string {
  return `${digestHex(diffId)}.erofs`;
}
