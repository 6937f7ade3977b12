/** A repository that brought a blob. */
interface Place {
  readonly upstream: string;
  readonly repository: string;
}

/** What is known of a stored blob, as far as it matters here. */
interface Attrs {
  readonly class: 'pushed' | 'cached';
  readonly provenance: readonly Place[];
  readonly writtenBack: boolean;
}

/** How an upstream keeps what is pushed to it: `registry` behind it, a `backend` of mode none, `origins` alone. */
export type Keeper = 'registry' | 'backend' | 'origins' | 'elsewhere';

/** How pushes are kept in this cluster. */
export interface Keeping {
  /** Undefined for an upstream that is not known any more. */
  readonly keeperOf: (upstream: string) => Keeper | undefined;
  /** So many repositories are noted of a blob: a list as long may lack one that a push still waits for. */
  readonly maxPlaces: number;
}

/** What must be seen before a pushed blob counts as one that can be fetched again. */
export type Arrival =
  /** Each of these repositories at its registry. */
  | { readonly type: 'ask'; readonly places: readonly Place[] }
  /** Its backend first. */
  | { readonly type: 'later' }
  /** Only origins have it, as far as is known. */
  | { readonly type: 'never' };

/** What to see of a stored blob. */
export function arrivalOf(attrs: Attrs, { keeperOf, maxPlaces }: Keeping): Arrival {
  const { class: kind, provenance, writtenBack } = attrs;
  const keepers = provenance.map(({ upstream }) => keeperOf(upstream));
  const places = provenance.filter((_, at) => keepers[at] === 'registry');
  if (kind !== 'pushed' || places.length === 0 || provenance.length >= maxPlaces) return { type: 'never' };
  if (keepers.some((one) => one === undefined || one === 'origins')) return { type: 'never' };
  if (keepers.includes('backend') && !writtenBack) return { type: 'later' };
  return { type: 'ask', places };
}

/** The attributes once `seen` places had it: cached, unless it was pushed to another one meanwhile. */
export function arrived<A extends Attrs>(attrs: A, seen: readonly Place[], keeping: Keeping): A {
  const found = arrivalOf(attrs, keeping);
  if (found.type !== 'ask' || !found.places.every((one) => seen.some((other) => isSame(one, other))))
    return attrs;
  return { ...attrs, class: 'cached', writtenBack: true };
}

function isSame(a: Place, b: Place): boolean {
  return a.upstream === b.upstream && a.repository === b.repository;
}
