/** Answer of `GET /v1/blobs/<digest>/where`. */
export interface Where {
  readonly state: 'final' | 'open' | 'none';
  readonly sizeBytes?: number;
  /** Of a fetch under way: what the upstream sent for it so far. */
  readonly fetchedBytes?: number;
  /** By this origin's own record alone: a guess where links can be deleted. */
  readonly linked: boolean;
  /** Of a blob that is here: whether it was pushed (to an upstream of mode write-back: to that), or may go. */
  readonly class?: 'pushed' | 'cached';
  /** Of a blob that is here: the upstreams whose repositories brought it. */
  readonly upstreams?: readonly string[];
}

/** What one member said about a blob, or `silent`. */
export type WhereState = 'final' | 'open' | 'none' | 'silent';

export type Located =
  | { readonly type: 'at'; readonly id: string; readonly state: 'final' | 'open' }
  /** Every member that could hold an acknowledged copy said no. */
  | { readonly type: 'absent' }
  /** Somebody who could hold it did not answer. */
  | { readonly type: 'undecided' };

/**
 * Where a blob is, from the answers of the first R + 2 members in `order` (owners, then stand-ins): a whole copy
 * wins over an open one, earlier members win over later ones; absent only if nobody was silent.
 */
export function locate(order: readonly string[], answers: ReadonlyMap<string, WhereState>): Located {
  for (const state of ['final', 'open'] as const) {
    const id = order.find((one) => answers.get(one) === state);
    if (id !== undefined) return { type: 'at', id, state };
  }
  return order.every((one) => answers.get(one) === 'none') ? { type: 'absent' } : { type: 'undecided' };
}
