/** What an origin said it has of a blob; `silent` when it did not answer in time. */
export interface Whereabouts {
  readonly originId: string;
  readonly state: 'final' | 'open' | 'none' | 'silent';
  readonly sizeBytes?: number;
}

/** Whom to take the metainfo from, and why. */
export type Choice =
  | { readonly type: 'holders'; readonly originIds: readonly string[]; readonly state: 'final' | 'open' }
  /** Nobody has it: these may fetch it from the upstream, in order. */
  | { readonly type: 'fetch'; readonly originIds: readonly string[] };

/**
 * Chooses from the answers of the owners and stand-ins, given in ring order: whoever has the whole blob, else
 * whoever fetches it now, else the first owners that answered are to fetch it.
 */
export function chooseOrigins(answers: readonly Whereabouts[], ownerIds: readonly string[]): Choice {
  for (const state of ['final', 'open'] as const) {
    const holders = answers.filter((answer) => answer.state === state).map((answer) => answer.originId);
    if (holders.length > 0) return { type: 'holders', originIds: holders, state };
  }
  const answered = answers.filter((answer) => answer.state !== 'silent').map((answer) => answer.originId);
  const owners = answered.filter((id) => ownerIds.includes(id));
  const others = answered.filter((id) => !ownerIds.includes(id));
  return { type: 'fetch', originIds: [...owners, ...others] };
}
