import type { Shard } from '@sepia/cluster/ring';
import { majorityOf } from './majority.ts';

/** Generations by member id; who is not named has 0, the generation of members of the version before. */
export type Generations = Readonly<Record<string, number>>;

/** What a member durably knows of itself and of the others, whatever happens to its database. */
export interface Standing {
  readonly id: string;
  /** Grows with every start that is not confirmed by others; nobody goes back to an older one. */
  readonly generation: number;
  /** The records of an earlier generation are still here: it may hand over before it counts. */
  readonly kept: boolean;
  /** It counts for every shard. */
  readonly settled: boolean;
  /** Members that handed everything over to this generation. */
  readonly handed: readonly string[];
  /** Newest generations of the others. */
  readonly known: Generations;
  /** Newest epoch of the membership that it took part in. */
  readonly epoch: number;
}

/** Who sent a reply, and what it knows of the others. */
export interface Sender {
  readonly id: string;
  readonly generation: number;
  readonly known: Generations;
}

/** A member that never had a generation: it counts, as it did under the version before. */
export function ungenerated(id: string): Standing {
  return { id, generation: 0, kept: true, settled: true, handed: [], known: {}, epoch: 0 };
}

/** `Any → Handover`: a new generation begins; with its records (`kept`) or without. */
export function begin(before: Standing, generation: number, kept: boolean): Standing {
  if (generation <= before.generation) throw new TypeError(`generation ${generation} is not new`);
  return { ...before, generation, kept, settled: false, handed: [] };
}

/** `Any → Handover`: it is in the ring no more. Added again, it counts when others handed over what changed meanwhile. */
export function leave(before: Standing): Standing {
  return { ...before, kept: before.kept || before.settled, settled: false, handed: [] };
}

/** What a source says to a new generation that asks it to hand over. */
export type Grant =
  | { readonly type: 'granted'; readonly next: Standing }
  /** A newer generation of the asker is known: it takes a later one. */
  | { readonly type: 'outdated'; readonly known: number }
  /** The source itself does not count: it cannot vouch for its records. */
  | { readonly type: 'not-yet' };

/** Records the asker's generation; `next` must be durable before anything is handed over. */
export function grant(source: Standing, asker: { readonly id: string; readonly generation: number }): Grant {
  if (!source.settled && !source.kept) return { type: 'not-yet' };
  const known = source.known[asker.id] ?? 0;
  if (asker.generation < known) return { type: 'outdated', known };
  if (asker.generation === known) return { type: 'granted', next: source };
  return { type: 'granted', next: { ...source, known: { ...source.known, [asker.id]: asker.generation } } };
}

/** `Handover → Handover | Settled`: a source handed everything over; `sets`: owners that must have, old and new ones. */
export function takeOver(
  asker: Standing,
  source: Sender & { readonly epoch: number },
  sets: readonly (readonly string[])[],
): Standing {
  const known = newerOf(asker.known, source.known, asker.id);
  const handed = asker.handed.includes(source.id) ? asker.handed : [...asker.handed, source.id];
  const next = { ...asker, known, handed, epoch: Math.max(asker.epoch, source.epoch) };
  return { ...next, settled: asker.settled || isHandedOver(next, sets) };
}

/** True if enough others handed over for a shard of these owners: R − W + 1 of each set, or all there are. */
function isHandedOver(
  standing: Pick<Standing, 'id' | 'handed'>,
  sets: readonly (readonly string[])[],
): boolean {
  return sets.every((owners) => {
    const others = owners.filter((id) => id !== standing.id);
    const needed = Math.min(owners.length - majorityOf(owners.length) + 1, others.length);
    return others.filter((id) => standing.handed.includes(id)).length >= needed;
  });
}

/** True if the member counts in majorities of a shard with these owners. */
export function countsFor(standing: Standing, sets: readonly (readonly string[])[]): boolean {
  return standing.settled || isHandedOver(standing, sets);
}

/** `epoch` of a message: refused if it is older than what the member took part in, else what is durable from then on. */
export function admitEpoch(standing: Standing, epoch: number): Standing | undefined {
  if (epoch < standing.epoch) return undefined;
  return epoch === standing.epoch ? standing : { ...standing, epoch };
}

/** Replies that count together: nobody among them knows a newer generation of the sender. */
export function counted<R extends { readonly sender: Sender }>(replies: readonly R[]): R[] {
  return replies.filter(({ sender }) =>
    replies.every((other) => (other.sender.known[sender.id] ?? 0) <= sender.generation),
  );
}

/** True if `ids` hold a majority of every set: of the owners, in a ring change of the old and of the new ones. */
export function isQuorum(ids: readonly string[], sets: readonly (readonly string[])[]): boolean {
  return sets.every((owners) => owners.filter((id) => ids.includes(id)).length >= majorityOf(owners.length));
}

/**
 * True if `ids` are so many that one of them knows of every write that a majority took: R − W + 1 of the owners, in a
 * ring change a majority of both.
 */
export function isReadQuorum(ids: readonly string[], { sets }: Shard): boolean {
  if (sets.length > 1) return isQuorum(ids, sets);
  return sets.every(
    (owners) =>
      owners.length > 0 &&
      owners.filter((id) => ids.includes(id)).length >= owners.length - majorityOf(owners.length) + 1,
  );
}

/** The later generation of each, but of `except`. */
export function newerOf(a: Generations, b: Generations, except?: string): Generations {
  const known: Record<string, number> = { ...a };
  for (const [id, generation] of Object.entries(b))
    if (id !== except && generation > (known[id] ?? 0)) known[id] = generation;
  return known;
}
