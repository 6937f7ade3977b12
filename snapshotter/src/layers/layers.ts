import { join } from 'node:path';
import { type Digest, digestHex } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { ignoreFailure, logFailure, throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { EROFS_LAYOUT } from '@sepia/lazy/erofs/encode';
import { DISK_FULL_MS } from '../deadlines.ts';
import type { FileToShow } from '../fuse/fuse-server.ts';
import type { AgentSource } from './agent-source.ts';
import type { ReadFile } from './core/first-reads.ts';
import type { LayerHome } from './core/homes.ts';
import { SpareSpans } from './core/spare-spans.ts';
import { ImageProcess } from './image-process.ts';
import { readIndexFacts } from './index-file.ts';
import type { KeptIndex } from './index-folder.ts';
import { LazyLayer } from './lazy-layer.ts';

/** Memory for what a disk that is full or fails does not take: some spans of 1 to 4 MiB. */
const SPARE_BYTES = 16 * 1024 * 1024;

interface LayersDeps {
  readonly log: Logger;
  readonly source: Pick<AgentSource, 'read'>;
  readonly onFetched: (bytes: number) => void;
}

/** What is told to {@link Layers.follow}; each is called at once and must not throw. */
interface LayersFollower {
  /** What the agent sends does not fit the index, again and again. */
  readonly mismatched?: (layer: LazyLayer, error: CodedError) => void;
  /** All of a layer is on disk. */
  readonly completed?: (layer: LazyLayer) => void;
  /** Blocks of a layer changed on disk: they count as missing from now on. */
  readonly damaged?: (layer: LazyLayer, blocks: number) => void;
  /** A layer is shown to a pull. */
  readonly used?: (layer: LazyLayer) => void;
  /** A layer was opened: the mount must show it. */
  readonly opened?: (file: FileToShow) => void;
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
  /** When its index came here, in ms of the wall clock; 0 for those of the config. */
  readonly keptMs: number;
  /** By the operator's own config: shown all or none of an image. Others are shown by their records. */
  readonly isLocal: boolean;
}

/** The layers of this node, by the names that the mount shows. */
export class Layers {
  readonly #deps: LayersDeps;
  readonly #options: LayersOptions;
  readonly #images: ImageProcess;
  readonly #spare = new SpareSpans({ budgetBytes: SPARE_BYTES, fullMs: DISK_FULL_MS });
  readonly #byName = new Map<string, LazyLayer>();
  readonly #opening = new Map<string, Promise<LazyLayer>>();
  readonly #removing = new Map<string, Promise<void>>();
  /** Layers that can no longer be found, but whose files are still open. */
  readonly #leaving = new Set<LazyLayer>();
  readonly #status = new Map<string, Known>();
  readonly #followers: LayersFollower[] = [];
  /** The indexes that layers were opened with: of a layer that is open another may be kept since. */
  readonly #indexes = new WeakMap<LazyLayer, Digest>();

  constructor(deps: LayersDeps, options: LayersOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#images = new ImageProcess(options.dir);
  }

  /** The disk took nothing of what was read lately: it is full, or fails. */
  get isDiskFull(): boolean {
    return this.#spare.isFull(performance.now());
  }

  /** From now on it is told what happens to layers. */
  follow(follower: LayersFollower): void {
    this.#followers.push(follower);
  }

  /**
   * Layers that may be shown: those of images of which no layer was refused. containerd downloads all layers above the
   * first that it does not find, so a part of an image is of no use.
   */
  shown(): LazyLayer[] {
    const all = [...this.#status.values()];
    const refused = new Set(
      all.filter((one) => one.isLocal && one.layer === undefined).map((one) => one.image),
    );
    return all.flatMap(({ layer, image, isLocal }) =>
      layer === undefined || (isLocal && refused.has(image)) ? [] : [layer],
    );
  }

  /** Opens a layer from an index file of the operator's; one that cannot be is noted with its reason, and the others go on. */
  async add(indexFile: string, image: string): Promise<LazyLayer | undefined> {
    const dir = (diffId: Digest): string => join(this.#options.dir, `${digestHex(diffId)}.${EROFS_LAYOUT}`);
    return await this.#note({ indexFile, image, keptMs: 0, isLocal: true }, () =>
      this.#open(indexFile, image, dir),
    );
  }

  /** Opens a layer from an index that the cluster's record names; one that is open is read from where it is said now. @throws as `LazyLayer.open` */
  async adopt(kept: KeptIndex, diffId?: Digest): Promise<LazyLayer> {
    const name = diffId === undefined ? undefined : fileNameOf(diffId);
    if (name !== undefined) await this.#removing.get(name)?.catch(ignoreFailure);
    const known = name === undefined ? undefined : this.#byName.get(name);
    if (known !== undefined) {
      if (known.index.layer === kept.layer) known.readFrom(homeOf(kept.image));
      this.#used(known);
      return known;
    }
    // Spans are those of one index: with another, what is on disk means nothing.
    const mark = `${digestHex(kept.index).slice(0, 16)}`;
    const dir = (id: Digest): string => join(this.#options.dir, `${digestHex(id)}.${EROFS_LAYOUT}.${mark}`);
    const layer = await this.#open(kept.file, kept.image, dir, kept, diffId);
    // Another pull may have opened it meanwhile.
    if (layer.index.layer === kept.layer) layer.readFrom(homeOf(kept.image));
    const { file: indexFile, image, keptMs } = kept;
    this.#status.set(indexFile, { indexFile, image, layer, reason: undefined, keptMs, isLocal: false });
    this.#used(layer);
    return layer;
  }

  /** Images of an earlier run had this layer, too: reads go by their repositories where its own refuses. */
  readAlsoFrom({ digest, diffId }: { digest: Digest; diffId: Digest }, image: string): void {
    const layer = this.byDiffId(diffId);
    if (layer?.index.layer === digest) layer.readFrom(homeOf(image), 'before');
  }

  /** Layers that are open under a diffID. */
  layersOf(diffId: Digest): readonly Digest[] {
    const layer = this.byDiffId(diffId);
    return layer === undefined ? [] : [layer.index.layer];
  }

  /** The index that the layer was opened with; undefined where it is the operator's own. */
  indexOf(layer: LazyLayer): Digest | undefined {
    return this.#indexes.get(layer);
  }

  byDiffId(diffId: Digest): LazyLayer | undefined {
    return this.#byName.get(fileNameOf(diffId));
  }

  /** As {@link byDiffId}, for who shows it to a pull. */
  use(diffId: Digest): LazyLayer | undefined {
    const layer = this.byDiffId(diffId);
    if (layer !== undefined) this.#used(layer);
    return layer;
  }

  /** Size of the smallest image of the config that has this layer, as it would be pulled; else that of the layer. */
  leastImageBytes(layer: LazyLayer): number {
    const local = [...this.#status.values()].filter((one) => one.isLocal);
    const images = new Set(local.filter((one) => one.layer === layer).map(({ image }) => image));
    if (images.size === 0) return layer.index.compressedBytes;
    const bytesOf = (image: string): number =>
      local
        .filter((one) => one.image === image)
        .reduce((sum, one) => sum + (one.layer?.index.compressedBytes ?? 0), 0);
    return Math.min(...[...images].map(bytesOf));
  }

  /** The layers that are open, each once. */
  cached(): { readonly layer: LazyLayer; readonly keptMs: number; readonly isLocal: boolean }[] {
    const known = [...this.#status.values()];
    return [...this.#byName.values()].map((layer) => {
      const own = known.filter((one) => one.layer === layer);
      const keptMs = Math.max(0, ...own.map((one) => one.keptMs));
      return { layer, keptMs, isLocal: own.some((one) => one.isLocal) };
    });
  }

  /**
   * Nobody finds the layer from now on, then its files go: after `before`, and before `after`. Tried again, it does nothing
   * where the layer came back meanwhile, or is about to: these are its files.
   * @returns whether they went
   */
  async remove(layer: LazyLayer, before: () => Promise<void>, after: () => Promise<void>): Promise<boolean> {
    const name = fileNameOf(layer.index.diffId);
    if (this.#opening.has(name) || (this.#byName.get(name) ?? layer) !== layer) return false;
    this.#byName.delete(name);
    for (const [file, known] of this.#status) if (known.layer === layer) this.#status.delete(file);
    this.#leaving.add(layer);
    const run = async (): Promise<void> => {
      await before();
      this.#leaving.delete(layer);
      await layer.remove();
      await after();
    };
    const removing = run().finally(() => this.#removing.delete(name));
    this.#removing.set(name, removing);
    await removing;
    return true;
  }

  /** Every layer that is open. */
  open(): LazyLayer[] {
    return [...this.#byName.values()];
  }

  /** The mount's files. */
  files(): FileToShow[] {
    return [...this.#byName].map(([name, layer]) => fileOf(name, layer));
  }

  /** @throws {CodedError} as `LazyLayer.read` */
  async read(name: string, offset: number, size: number): Promise<Buffer> {
    const layer = this.#byName.get(name);
    if (layer === undefined) throw new CodedError('BLOB_UNKNOWN', { detail: { name } });
    return await layer.read(offset, size);
  }

  status(): LayerStatus[] {
    const shown = new Set(this.shown());
    return [...this.#status.values()].map(({ indexFile, image, layer, reason }) => ({
      indexFile,
      image: layer === undefined ? image : `${layer.home.host}/${layer.home.repository}`,
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

  /** What was read of each layer since the daemon started; of whole layers that are mounted without us nothing is seen. */
  async reads(): Promise<
    { readonly layer: Digest; readonly isWhole: boolean; readonly files: readonly ReadFile[] }[]
  > {
    const reads = [...this.#byName.values()].map(async (layer) => ({
      layer: layer.index.layer,
      isWhole: layer.presence.isComplete,
      files: await layer.filesRead(),
    }));
    return await Promise.all(reads);
  }

  async close(): Promise<void> {
    this.#images.close();
    const open = [...this.#byName.values(), ...this.#leaving];
    this.#leaving.clear();
    await Promise.all(open.map((layer) => layer.close()));
  }

  /** Opens what an earlier run kept; what cannot be opened is noted with its reason. */
  async reopen(kept: KeptIndex): Promise<LazyLayer | undefined> {
    const { file: indexFile, image, keptMs } = kept;
    return await this.#note({ indexFile, image, keptMs, isLocal: false }, () => this.adopt(kept));
  }

  #used(layer: LazyLayer): void {
    for (const { used } of this.#followers) used?.(layer);
  }

  async #note(
    facts: Pick<Known, 'indexFile' | 'image' | 'keptMs' | 'isLocal'>,
    open: () => Promise<LazyLayer>,
  ): Promise<LazyLayer | undefined> {
    try {
      const layer = await open();
      this.#status.set(facts.indexFile, { ...facts, layer, reason: undefined });
      return layer;
    } catch (error) {
      throwIfBug(error);
      this.#status.set(facts.indexFile, { ...facts, layer: undefined, reason: (error as Error).message });
      this.#deps.log.error({ err: error, indexFile: facts.indexFile }, 'a layer cannot be lazy');
      return undefined;
    }
  }

  async #open(
    indexFile: string,
    image: string,
    dir: (diffId: Digest) => string,
    kept?: Pick<KeptIndex, 'layer' | 'index'>,
    expected?: Digest,
  ): Promise<LazyLayer> {
    const { layer: digest, diffId } = await readIndexFacts(indexFile);
    if ((kept !== undefined && digest !== kept.layer) || (expected !== undefined && diffId !== expected))
      throw new CodedError('INDEX_INVALID', { message: `${indexFile} is the index of another layer` });
    const name = fileNameOf(diffId);
    // The files of one that goes would be taken from the new one.
    for (let going = this.#removing.get(name); going !== undefined; going = this.#removing.get(name))
      await going.catch(ignoreFailure);
    // Opened twice, one would take the other's files from it. Nothing is waited for between the look and the note.
    const known = this.#byName.get(name) ?? this.#opening.get(name);
    if (known !== undefined) return await known;
    const { bootId } = this.#options;
    const opening = this.#openFresh(name, { dir, indexFile, home: homeOf(image), bootId });
    this.#opening.set(name, opening);
    try {
      const layer = await opening;
      if (kept !== undefined) this.#indexes.set(layer, kept.index);
      return layer;
    } finally {
      this.#opening.delete(name);
    }
  }

  async #openFresh(name: string, options: Parameters<typeof LazyLayer.open>[1]): Promise<LazyLayer> {
    const onMismatch = (layer: LazyLayer, error: CodedError): void => {
      for (const { mismatched } of this.#followers) mismatched?.(layer, error);
    };
    const onComplete = (layer: LazyLayer): void => {
      for (const { completed } of this.#followers) completed?.(layer);
    };
    const onDamage = (layer: LazyLayer, blocks: number): void => {
      for (const { damaged } of this.#followers) damaged?.(layer, blocks);
    };
    const onAheadFailure = ({ index }: LazyLayer, error: unknown): void =>
      logFailure(this.#deps.log, error, 'reading ahead in a layer failed', { layer: index.layer }, 'debug');
    const onFull = ({ index }: LazyLayer, error: CodedError): void => {
      const facts = { err: error, layer: index.layer, dir: this.#options.dir };
      this.#deps.log.error(
        facts,
        'disk takes no writes: what is read of layers is not kept; make room, or look after it',
      );
    };
    const deps = {
      ...this.#deps,
      images: this.#images,
      spare: this.#spare,
      ...{ onComplete, onDamage, onMismatch, onAheadFailure, onFull },
    };
    const layer = await LazyLayer.open(deps, options);
    this.#byName.set(name, layer);
    for (const { opened } of this.#followers) opened?.(fileOf(name, layer));
    return layer;
  }
}

function homeOf(image: string): LayerHome {
  const slash = image.indexOf('/');
  return { host: image.slice(0, slash), repository: image.slice(slash + 1) };
}

function fileOf(name: string, layer: LazyLayer): FileToShow {
  const { imageBytes: sizeBytes, fd, blocks, sums, turns } = layer;
  return { name, sizeBytes, fd, blocks, sums, turns };
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
