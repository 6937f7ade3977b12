import { lchown, mkdir, readdir, rename, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { systemCode } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import { DIGEST } from '@sepia/base/names/digest-schema';
import { diskFiles } from '@sepia/store/files/disk-files';
import { z } from 'zod';
import { readJson, writeJson } from '../files/json-file.ts';
import type { Snapshot } from './core/table.ts';
import { flatten } from './deep-trees.ts';

/** What a later version says in a record is kept: an upgrade may be taken back (ADR 12). */
const RECORD = z.looseObject({
  id: z.number().int().min(1),
  name: z.string().min(1),
  kind: z.enum(['view', 'active', 'committed']),
  parent: z.string(),
  labels: z.record(z.string(), z.string()),
  createdMs: z.number(),
  updatedMs: z.number(),
  layer: DIGEST.optional(),
  usage: z.looseObject({ sizeBytes: z.number(), inodes: z.number() }).optional(),
});

/**
 * Snapshots on disk: `records/<id>.json`, which is written whole and synced before it counts, and `tree/<id>/fs` (and
 * `work`), which hold files or are the mount point of a layer. `tree/<id>/record.json` stands in for a record that cannot
 * be read: containerd, which has the snapshot on its own record, would ask for it for ever. A folder without either is
 * nobody's.
 */
export class SnapshotFolder {
  readonly #dir: string;
  readonly #log: Logger;

  constructor(deps: { readonly log: Logger }, dir: string) {
    this.#log = deps.log;
    this.#dir = dir;
  }

  /** All that is on record, and an id that nothing uses. What cannot be read is left out, and said. */
  async open(): Promise<{ snapshots: Snapshot[]; nextId: number }> {
    for (const part of ['records', 'tree'])
      await mkdir(join(this.#dir, part), { recursive: true, mode: 0o700 });
    const snapshots: Snapshot[] = [];
    let lastId = 0;
    for (const name of await readdir(join(this.#dir, 'records'))) {
      const path = join(this.#dir, 'records', name);
      if (!name.endsWith('.json')) {
        await rm(path, { force: true });
        continue;
      }
      lastId = Math.max(lastId, Number(name.slice(0, -'.json'.length)) || 0);
      const found = await this.#read(path);
      if (found !== undefined) snapshots.push(found);
    }
    // One that is still being swept (`12.gone`) has its number too.
    for (const name of await readdir(join(this.#dir, 'tree')))
      lastId = Math.max(lastId, Number.parseInt(name, 10) || 0);
    return { snapshots: withParents(snapshots, this.#log), nextId: lastId + 1 };
  }

  pathOf(id: number, part: 'fs' | 'work'): string {
    return join(this.#dir, 'tree', String(id), part);
  }

  /** Folders of a snapshot; its root belongs to whom the root below belongs to. */
  async make(snapshot: Snapshot, below: Snapshot | undefined): Promise<void> {
    const fs = this.pathOf(snapshot.id, 'fs');
    await mkdir(fs, { recursive: true, mode: 0o755 });
    if (snapshot.kind === 'active') await mkdir(this.pathOf(snapshot.id, 'work'), { mode: 0o711 });
    if (below === undefined || snapshot.layer !== undefined) return;
    const { uid, gid } = await stat(this.pathOf(below.id, 'fs'));
    await lchown(fs, uid, gid);
  }

  /** Writes a snapshot down; durable when it resolves. */
  async save(snapshot: Snapshot): Promise<void> {
    await this.#saveCopy(snapshot);
    await writeJson(this.#record(snapshot.id), snapshot, true);
    await diskFiles.syncFolder(join(this.#dir, 'records'));
  }

  async forget(id: number): Promise<void> {
    await rm(this.#record(id), { force: true });
    await diskFiles.syncFolder(join(this.#dir, 'records'));
  }

  /** Folders that belong to none of `ids`. */
  async orphans(ids: ReadonlySet<number>): Promise<string[]> {
    const names = await readdir(join(this.#dir, 'tree'));
    return names.filter((name) => !ids.has(Number(name))).map((name) => join(this.#dir, 'tree', name));
  }

  /** Takes a folder out of sight: what it is called now, for {@link sweep}, in this process or the next. */
  async hide(path: string): Promise<string> {
    if (path.endsWith('.gone')) return path;
    try {
      await rename(path, `${path}.gone`);
    } catch (error) {
      // Somebody took it away, or it was never made.
      if (systemCode(error) !== 'ENOENT') throw error;
    }
    return `${path}.gone`;
  }

  /** Takes a hidden folder off the disk, however deep it is. */
  async sweep(hidden: string): Promise<void> {
    try {
      await rm(hidden, { recursive: true, force: true });
    } catch (error) {
      if (systemCode(error) !== 'ENAMETOOLONG') throw error;
      await flatten(hidden);
      await rm(hidden, { recursive: true, force: true });
    }
  }

  treeOf(id: number): string {
    return join(this.#dir, 'tree', String(id));
  }

  /** A record or its copy; undefined where neither can be read: the record is set aside, and gone with the next start. */
  async #read(path: string): Promise<Snapshot | undefined> {
    const record = await readJson(path, RECORD);
    const found = await readJson(this.#copy(Number(basename(path, '.json'))), RECORD);
    if (record !== undefined) {
      // One of a version that kept none.
      if (found === undefined) await this.#again(path, async () => await this.#saveCopy(record));
      return record;
    }
    if (found !== undefined && this.#record(found.id) === path) {
      this.#log.warn({ path, name: found.name }, 'a snapshot on record cannot be read; its copy is taken');
      await this.#again(path, async () => await this.save(found));
      return found;
    }
    this.#log.error(
      { path },
      'a snapshot on record cannot be read; it is left out. Where a pull says "target snapshot … already exists", remove all names of the image first',
    );
    await rename(path, `${path}.unreadable`);
    return undefined;
  }

  async #saveCopy(snapshot: Snapshot): Promise<void> {
    await mkdir(this.treeOf(snapshot.id), { recursive: true });
    await writeJson(this.#copy(snapshot.id), snapshot, false);
  }

  /** What is known is served all the same, on a full disk too: it is written at the next start. */
  async #again(path: string, save: () => Promise<void>): Promise<void> {
    try {
      await save();
    } catch (error) {
      logFailure(this.#log, error, 'a snapshot was not put on record again', { path });
    }
  }

  #copy(id: number): string {
    return join(this.treeOf(id), 'record.json');
  }

  #record(id: number): string {
    return join(this.#dir, 'records', `${id}.json`);
  }
}

/** Those whose whole chain is on record. */
function withParents(all: readonly Snapshot[], log: Logger): Snapshot[] {
  const byName = new Map(all.map((one) => [one.name, one]));
  const isWhole = (one: Snapshot): boolean => {
    for (let at = one, steps = 0; at.parent !== ''; steps++) {
      const parent = byName.get(at.parent);
      if (parent === undefined || steps > all.length) return false;
      at = parent;
    }
    return true;
  };
  return all.filter((one) => {
    const isKept = isWhole(one);
    if (!isKept) log.error({ snapshot: one.name }, 'a snapshot stands on one that is not there; left out');
    return isKept;
  });
}
