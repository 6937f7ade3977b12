import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';

/**
 * As containerd has them: a view is read only, an active one takes writes, a committed one is a layer for
 * others.
 */
export type Kind = 'view' | 'active' | 'committed';
/** Labels of a snapshot as containerd gave them; kept unchanged. */
export type Labels = Readonly<Record<string, string>>;

/** A snapshot of containerd as it is on record here. */
export interface Snapshot {
  /** Names its folder; never used twice. */
  readonly id: number;
  readonly name: string;
  readonly kind: Kind;
  /** Name of a committed snapshot, or empty. */
  readonly parent: string;
  readonly labels: Labels;
  readonly createdMs: number;
  readonly updatedMs: number;
  /** DiffID of a layer that is mounted instead of unpacked. */
  readonly layer?: Digest | undefined;
  /** Of a committed snapshot that was unpacked. */
  readonly usage?: Usage | undefined;
}

/** What the files of a snapshot take on the disk. */
export interface Usage {
  readonly sizeBytes: number;
  readonly inodes: number;
}

/** What somebody asks for. */
export interface Wanted {
  readonly name: string;
  readonly parent: string;
  readonly labels: Labels;
}

/**
 * The snapshots of a node: a forest of committed ones with active ones and views on top. Pure: what a change makes is
 * returned, put on record by the caller, and then taken in by {@link put} and {@link drop}.
 */
export class SnapshotTable {
  readonly #byName = new Map<string, Snapshot>();
  readonly #children = new Map<string, number>();
  #nextId: number;

  constructor(snapshots: readonly Snapshot[], nextId: number) {
    this.#nextId = nextId;
    for (const one of snapshots) this.put(one);
  }

  /** @throws `SNAPSHOT_UNKNOWN` */
  get(name: string): Snapshot {
    const found = this.#byName.get(name);
    if (found === undefined)
      throw new CodedError('SNAPSHOT_UNKNOWN', { message: `snapshot ${name}: not found` });
    return found;
  }

  find(name: string): Snapshot | undefined {
    return this.#byName.get(name);
  }

  list(): Iterable<Snapshot> {
    return this.#byName.values();
  }

  /** A new snapshot on a committed one, or on none. @throws `SNAPSHOT_EXISTS`, `SNAPSHOT_UNKNOWN`, `REQUEST_INVALID` */
  begun(kind: 'view' | 'active', wanted: Wanted, nowMs: number): Snapshot {
    return { ...this.#fresh(wanted, nowMs), kind };
  }

  /** A layer that is committed at once: it is mounted, never written. @throws as {@link begun} */
  mounted(layer: Digest, wanted: Wanted, nowMs: number): Snapshot {
    return { ...this.#fresh(wanted, nowMs), kind: 'committed', layer };
  }

  /** Active → committed, under another name. @throws `SNAPSHOT_UNKNOWN`, `SNAPSHOT_STATE`, `SNAPSHOT_EXISTS` */
  committed(key: string, name: string, labels: Labels, usage: Usage, nowMs: number): Snapshot {
    const active = this.get(key);
    if (active.kind !== 'active')
      throw new CodedError('SNAPSHOT_STATE', { message: `snapshot ${key} is not active` });
    if (this.#byName.has(name))
      throw new CodedError('SNAPSHOT_EXISTS', { message: `snapshot ${name} is there already` });
    return { ...active, name, kind: 'committed', labels, usage, updatedMs: nowMs };
  }

  /** @throws `SNAPSHOT_UNKNOWN`, `SNAPSHOT_STATE` while others stand on it */
  removable(name: string): Snapshot {
    const found = this.get(name);
    if ((this.#children.get(name) ?? 0) > 0)
      throw new CodedError('SNAPSHOT_STATE', { message: `snapshot ${name} has others on top` });
    return found;
  }

  /**
   * Labels changed as the field paths say: `labels`, `labels.NAME`; none: all labels.
   * @throws `SNAPSHOT_UNKNOWN`, `REQUEST_INVALID` for what cannot be changed
   */
  updated(name: string, labels: Labels, paths: readonly string[], nowMs: number): Snapshot {
    const found = this.get(name);
    let next: Record<string, string> = { ...found.labels };
    for (const path of paths.length === 0 ? ['labels'] : paths) {
      if (path === 'labels') next = { ...labels };
      else if (path.startsWith('labels.')) {
        const key = path.slice('labels.'.length);
        if (Object.hasOwn(labels, key)) next[key] = labels[key]!;
        else delete next[key];
      } else throw new CodedError('REQUEST_INVALID', { message: `${path} of a snapshot cannot be changed` });
    }
    return { ...found, labels: next, updatedMs: nowMs };
  }

  /** What a snapshot stands on, the nearest first. */
  ancestors(snapshot: Snapshot): Snapshot[] {
    const found: Snapshot[] = [];
    for (let name = snapshot.parent; name !== ''; ) {
      const one = this.get(name);
      found.push(one);
      name = one.parent;
    }
    return found;
  }

  /** Takes in what is on record now; `before`: the name that it had. */
  put(snapshot: Snapshot, before: string = snapshot.name): void {
    if (this.#byName.has(before)) this.drop(before);
    this.#byName.set(snapshot.name, snapshot);
    this.#count(snapshot.parent, 1);
  }

  drop(name: string): void {
    const found = this.get(name);
    this.#byName.delete(name);
    this.#count(found.parent, -1);
  }

  #fresh({ name, parent, labels }: Wanted, nowMs: number): Omit<Snapshot, 'kind'> {
    if (name === '') throw new CodedError('REQUEST_INVALID', { message: 'a snapshot needs a key' });
    if (this.#byName.has(name))
      throw new CodedError('SNAPSHOT_EXISTS', { message: `snapshot ${name} is there already` });
    if (parent !== '' && this.get(parent).kind !== 'committed')
      throw new CodedError('REQUEST_INVALID', { message: `parent ${parent} is not committed` });
    return { id: this.#nextId++, name, parent, labels, createdMs: nowMs, updatedMs: nowMs };
  }

  #count(parent: string, by: number): void {
    if (parent === '') return;
    const count = (this.#children.get(parent) ?? 0) + by;
    if (count === 0) this.#children.delete(parent);
    else this.#children.set(parent, count);
  }
}
