import { fewAtOnce } from '@sepia/base/async/few-at-once';
import { KeyedLocks } from '@sepia/base/async/keyed-locks';
import { SingleFlight } from '@sepia/base/async/single-flight';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { logFailure, readElsewhere, throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { parseFilters } from './core/filter.ts';
import { chainOf, type Grants, LABEL } from './core/grants.ts';
import { type Mount, mountsOf } from './core/mounts.ts';
import { type Labels, type Snapshot, SnapshotTable, type Usage, type Wanted } from './core/table.ts';
import { diskUsage } from './disk-usage.ts';
import type { LayerMounts } from './layer-mounts.ts';
import type { SnapshotFolder } from './snapshot-folder.ts';

/** A layer of this node: where its image is now, and what of it is on disk. */
export interface HeldLayer {
  readonly image: string;
  usage(): Promise<Usage>;
  /** It is shown to a pull. */
  use(): void;
}

/** Layers that are mounted at once at the start. */
const MOUNTS_AT_ONCE = 8;

const LEFT = 'files that no snapshot owns could not be removed; the next clean-up tries again';
const UNMOUNTED = 'somebody unmounted a layer of a snapshot, or took its folder away: it is mounted again';
const NOT_MOUNTED = 'a layer of a snapshot is not mounted: remove its image and pull again';

interface Deps {
  readonly folder: SnapshotFolder;
  readonly mounts: Pick<LayerMounts, 'ensure' | 'isThere' | 'release'>;
  readonly grants: Grants;
  /** A layer that is open here. */
  readonly layerOf: (diffId: Digest) => HeldLayer | undefined;
  /** Options that every overlay of this kernel needs. */
  readonly overlayOptions: () => readonly string[];
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly wallMs: () => number;
}

/**
 * Door 2: a snapshotter of overlays for containerd 1.6 to 2.3. A layer that is granted to a pull is mounted and
 * committed at once, which tells containerd that it needs not be downloaded; everything else is unpacked as ever.
 */
export class Snapshots {
  readonly #deps: Deps;
  readonly #table: SnapshotTable;
  /** Changes come one after the other; what takes long (counting a tree, removing one) is done beside them. */
  readonly #turn = new KeyedLocks<'all' | 'sweep'>();
  /** Trees out of sight, on their way off the disk: one at a time, so that reads of others do not wait for theirs. */
  readonly #sweeps = new SingleFlight<string, void>();
  /** Ids of snapshots whose layer should be mounted and is not. */
  readonly #unmounted = new Set<number>();

  private constructor(deps: Deps, table: SnapshotTable) {
    this.#deps = deps;
    this.#table = table;
  }

  /** Opens what is on record and mounts its layers again; one that cannot be mounted stops none of the others. */
  static async open(deps: Deps): Promise<Snapshots> {
    const { snapshots, nextId } = await deps.folder.open();
    const all = new Snapshots(deps, new SnapshotTable(snapshots, nextId));
    // One that hangs does not keep the others.
    await fewAtOnce(snapshots, MOUNTS_AT_ONCE, async (one) => await all.#mountAgain(one));
    readElsewhere(all.#sweep(await all.#hideOrphans()));
    return all;
  }

  /**
   * A snapshot to write to, or to look at.
   * @throws `SNAPSHOT_EXISTS` also where a layer was found here: then it is committed under the name that the label says
   */
  async begin(kind: 'view' | 'active', wanted: Wanted): Promise<Mount[]> {
    return await this.#turn.run('all', async () => {
      if (kind === 'active' && (await this.#show(wanted)))
        throw new CodedError('SNAPSHOT_EXISTS', { message: `layer ${wanted.labels[LABEL.ref]} is here` });
      const snapshot = this.#table.begun(kind, wanted, this.#deps.wallMs());
      const [below] = await this.#mountBelow(snapshot);
      try {
        await this.#deps.folder.make(snapshot, below);
        await this.#deps.folder.save(snapshot);
      } catch (error) {
        await this.#discard(snapshot);
        throw error;
      }
      this.#table.put(snapshot);
      return this.#mountsOf(snapshot);
    });
  }

  /** @throws `SNAPSHOT_UNKNOWN`, `SNAPSHOT_STATE` for a committed one */
  async mounts(key: string): Promise<Mount[]> {
    return await this.#turn.run('all', async () => {
      const snapshot = this.#table.get(key);
      if (snapshot.kind === 'committed')
        throw new CodedError('SNAPSHOT_STATE', { message: `snapshot ${key} is committed` });
      await this.#mountBelow(snapshot);
      return this.#mountsOf(snapshot);
    });
  }

  /** @throws as `SnapshotTable.committed` */
  async commit(key: string, name: string, labels: Labels): Promise<void> {
    const { folder, wallMs } = this.#deps;
    const { id } = this.#table.get(key);
    const usage = await diskUsage(folder.pathOf(id, 'fs'));
    await this.#turn.run('all', async () => {
      const snapshot = this.#table.committed(key, name, labels, usage, wallMs());
      if (snapshot.id !== id)
        throw new CodedError('SNAPSHOT_UNKNOWN', { message: `snapshot ${key} was removed` });
      await folder.save(snapshot);
      this.#table.put(snapshot, key);
    });
  }

  /**
   * Resolves once it is off the record and its layer unmounted; its files go afterwards, as with containerd's own overlays:
   * who starts a container meanwhile does not wait for them. {@link cleanup} does. @throws as `SnapshotTable.removable`
   */
  async remove(key: string): Promise<void> {
    const hidden = await this.#turn.run('all', async () => {
      const { folder } = this.#deps;
      const snapshot = this.#table.removable(key);
      await folder.forget(snapshot.id);
      this.#table.drop(key);
      this.#unmounted.delete(snapshot.id);
      return await this.#hide([folder.treeOf(snapshot.id)]);
    });
    readElsewhere(this.#sweep(hidden));
  }

  /** @throws `SNAPSHOT_UNKNOWN` */
  stat(key: string): Snapshot {
    return this.#table.get(key);
  }

  /** @throws as `SnapshotTable.updated` */
  async update(name: string, labels: Labels, paths: readonly string[]): Promise<Snapshot> {
    return await this.#turn.run('all', async () => {
      const snapshot = this.#table.updated(name, labels, paths, this.#deps.wallMs());
      await this.#deps.folder.save(snapshot);
      this.#table.put(snapshot);
      return snapshot;
    });
  }

  /** @throws `REQUEST_INVALID` for a filter that is none */
  list(filters: readonly string[]): Snapshot[] {
    const matches = parseFilters(filters);
    return [...this.#table.list()].filter((one) => matches(one));
  }

  /** Bytes on this disk: of a layer that is mounted, what of it was fetched. @throws `SNAPSHOT_UNKNOWN` */
  async usage(key: string): Promise<Usage> {
    const { folder, layerOf } = this.#deps;
    const snapshot = this.#table.get(key);
    if (snapshot.layer !== undefined)
      return (await layerOf(snapshot.layer)?.usage()) ?? { sizeBytes: 0, inodes: 0 };
    return snapshot.usage ?? (await diskUsage(folder.pathOf(snapshot.id, 'fs')));
  }

  /** Takes away what no snapshot owns; resolves once it is off the disk. */
  async cleanup(): Promise<void> {
    await this.#sweep(await this.#hideOrphans());
  }

  /** Layers that snapshots name, once what is under way is done. */
  async layers(): Promise<ReadonlySet<Digest>> {
    return await this.#turn.run('all', async () => {
      const layers = [...this.#table.list()].map(({ layer }) => layer);
      return new Set(layers.filter((one) => one !== undefined));
    });
  }

  /** Layers that are mounted, each once per snapshot. */
  mountedCount(): number {
    return [...this.#table.list()].filter(({ layer }) => layer !== undefined).length;
  }

  /** Mounts and commits a layer that this pull may have; false: the pull is ordinary. */
  async #show(wanted: Wanted): Promise<boolean> {
    const { grants, folder, mounts, layerOf, log, nowMs, wallMs } = this.#deps;
    const { labels, parent } = wanted;
    const diffId = grants.diffIdFor(labels, parent === '' ? undefined : chainOf(parent), nowMs());
    const layer = diffId === undefined ? undefined : layerOf(diffId);
    if (diffId === undefined || layer === undefined) return false;
    layer.use();
    const name = labels[LABEL.ref]!;
    const known = this.#table.find(name);
    // Pulled into another containerd namespace before: the same snapshot serves both.
    if (known !== undefined) return known.layer === diffId && known.parent === parent;
    const snapshot = this.#table.mounted(diffId, { name, parent, labels }, wallMs());
    try {
      await folder.make(snapshot, undefined);
      await mounts.ensure(layer.image, folder.pathOf(snapshot.id, 'fs'));
      await folder.save(snapshot);
    } catch (error) {
      await this.#discard(snapshot);
      throwIfBug(error);
      logFailure(log, error, 'a layer could not be mounted; it is pulled the ordinary way', { diffId });
      return false;
    }
    this.#table.put(snapshot);
    return true;
  }

  async #mountAgain(snapshot: Snapshot): Promise<void> {
    const { name, layer } = snapshot;
    if (layer === undefined) return;
    try {
      await this.#mount(snapshot, layer);
    } catch (error) {
      throwIfBug(error);
      logFailure(this.#deps.log, error, NOT_MOUNTED, { name, layer });
    }
  }

  /** What a snapshot stands on, with layers mounted that are not. @throws {CodedError} where one cannot be: it would be empty */
  async #mountBelow(snapshot: Snapshot): Promise<Snapshot[]> {
    const { folder, mounts, log } = this.#deps;
    const below = this.#table.ancestors(snapshot);
    for (const one of below) {
      const { id, name, layer } = one;
      if (layer === undefined) continue;
      const wasMounted = !this.#unmounted.has(id);
      if (wasMounted && (await mounts.isThere(folder.pathOf(id, 'fs')))) continue;
      if (wasMounted) log.warn({ name, layer }, UNMOUNTED);
      await this.#mount(one, layer);
    }
    return below;
  }

  /** Also where somebody unmounted it, or took its folder away. */
  async #mount(snapshot: Snapshot, layer: Digest): Promise<void> {
    const { layerOf, mounts, folder } = this.#deps;
    this.#unmounted.add(snapshot.id);
    const held = layerOf(layer);
    if (held === undefined)
      throw new CodedError('LAYER_NOT_LAZY', {
        message: `layer ${layer} of a snapshot is not here any more`,
      });
    await folder.make(snapshot, undefined);
    await mounts.ensure(held.image, folder.pathOf(snapshot.id, 'fs'));
    this.#unmounted.delete(snapshot.id);
  }

  async #hideOrphans(): Promise<string[]> {
    return await this.#turn.run('all', async () => {
      const ids = new Set([...this.#table.list()].map(({ id }) => id));
      return await this.#hide(await this.#deps.folder.orphans(ids));
    });
  }

  /** Nothing is left of one that did not come on record: who asks again gets another number, on a full disk for hours. */
  async #discard({ id }: Snapshot): Promise<void> {
    const { folder, log } = this.#deps;
    try {
      // It may be there, and not be durable: at the next start it would stand in the place of one that has its name by then.
      await folder.forget(id);
    } catch (error) {
      logFailure(log, error, LEFT, { id });
    }
    readElsewhere(this.#sweep(await this.#hide([folder.treeOf(id)])));
  }

  /** Unmounts trees that no snapshot owns and takes them out of sight; what cannot be waits for the next clean-up. */
  async #hide(trees: readonly string[]): Promise<string[]> {
    const { folder, mounts } = this.#deps;
    const hidden: string[] = [];
    for (const path of trees) {
      try {
        await mounts.release(`${path}/fs`);
        hidden.push(await folder.hide(path));
      } catch (error) {
        logFailure(this.#deps.log, error, LEFT, { path });
      }
    }
    return hidden;
  }

  /** Takes what is out of sight off the disk. */
  async #sweep(hidden: readonly string[]): Promise<void> {
    const sweep = async (path: string): Promise<void> => {
      try {
        await this.#turn.run('sweep', async () => await this.#deps.folder.sweep(path));
      } catch (error) {
        logFailure(this.#deps.log, error, LEFT, { path });
      }
    };
    await Promise.all(hidden.map(async (path) => await this.#sweeps.share(path, () => sweep(path))));
  }

  #mountsOf(snapshot: Snapshot): Mount[] {
    const { folder, overlayOptions } = this.#deps;
    const pathOf = (id: number, part: 'fs' | 'work'): string => folder.pathOf(id, part);
    return mountsOf(snapshot, this.#table.ancestors(snapshot), pathOf, overlayOptions());
  }
}

/** True for what somebody asked wrongly: it is answered, not logged. */
export function isRefusal(error: unknown): boolean {
  return (
    isCoded(error, 'SNAPSHOT_UNKNOWN') ||
    isCoded(error, 'SNAPSHOT_EXISTS') ||
    isCoded(error, 'SNAPSHOT_STATE') ||
    isCoded(error, 'REQUEST_INVALID')
  );
}
