import { isAlone } from '@sepia/records/core/set-protocol';
import type { RecordStore } from '@sepia/records/store/record-store';
import type { SyncSpace } from '../records/core/record-shard.ts';
import type { RecordDigests } from './record-digests.ts';

/** Entries that are looked at in one go. */
const BATCH = 1_000;

/** Spaces whose records are entries of sets. */
export type SetSpace = Exclude<SyncSpace, 'r1' | 'b1'>;

/** An entry of a set by the space and the key that it is stored under. */
export interface SetKey {
  readonly space: SetSpace;
  readonly key: string;
}

interface AloneEntriesDeps {
  readonly records: Pick<RecordStore, 'aloneSet'>;
  readonly digests: Pick<RecordDigests, 'bucketOf'>;
  readonly selfId: string;
}

/**
 * Own set entries that other owners lack, during a handover. Kept in the database, so that there may be any number of
 * them: one that was not remembered would bring back what was deleted.
 */
export class AloneEntries {
  readonly #deps: AloneEntriesDeps;

  constructor(deps: AloneEntriesDeps) {
    this.#deps = deps;
  }

  /** Forgets what `id` lacks, or what any owner lacks: it is asked anew, or earlier answers no longer count. */
  async forget(id?: string): Promise<void> {
    const { aloneSet } = this.#deps.records;
    for await (const marks of this.#marks(id === undefined ? [] : [id])) await aloneSet.remove(...marks);
  }

  /** `id` lacks these; the caller bounds how many. Durable when it resolves. */
  async note(id: string, space: SetSpace, keys: readonly string[]): Promise<void> {
    if (keys.length === 0) return;
    const marks = keys.map((key) => ({ key: markOf(id, { space, key }), atMs: 0, value: {} }));
    await this.#deps.records.aloneSet.mergeAll(marks);
  }

  /** Entries that all of their other owners lack, each one of `witnesses`; in batches. Each is told once. */
  async *found(witnesses: readonly string[]): AsyncGenerator<SetKey[], void, void> {
    const { aloneSet } = this.#deps.records;
    for await (const marks of this.#marks([])) {
      const named = new Map<string, SetKey>();
      for (const [, space, ...key] of marks)
        named.set([space, ...key].join('\0'), { space: space as SetSpace, key: key.join('\0') });
      const alone = await this.#alone([...named.values()], witnesses);
      if (alone.length === 0) continue;
      yield alone;
      await aloneSet.remove(...alone.flatMap((one) => this.#marksOf(one)));
    }
  }

  async *#marks(prefix: readonly string[]): AsyncGenerator<(readonly string[])[], void, void> {
    let marks: (readonly string[])[] = [];
    for await (const { key } of this.#deps.records.aloneSet.entries(prefix)) {
      marks.push(key);
      if (marks.length < BATCH) continue;
      yield marks;
      marks = [];
    }
    if (marks.length > 0) yield marks;
  }

  async #alone(names: readonly SetKey[], witnesses: readonly string[]): Promise<SetKey[]> {
    const { records, selfId } = this.#deps;
    const marks = names.map((name) => this.#marksOf(name));
    const there = await records.aloneSet.entriesOf(marks.flat());
    let at = 0;
    return names.filter((_, index) => {
      const lacking = new Set(marks[index]!.filter(() => there[at++] !== undefined).map(([id]) => id!));
      const others = marks[index]!.map(([id]) => id!);
      return others.length > 0 && isAlone(others, selfId, (id) => lacking.has(id) && witnesses.includes(id));
    });
  }

  /** The marks that its other owners have on it, once they lack it. */
  #marksOf(name: SetKey): string[][] {
    const { digests, selfId } = this.#deps;
    const { owners } = digests.bucketOf(name.space, name.key) ?? { owners: [] };
    return owners.filter((id) => id !== selfId).map((id) => markOf(id, name));
  }
}

function markOf(id: string, { space, key }: SetKey): string[] {
  return [id, space, ...key.split('\0')];
}
