/** What an origin said it has of a blob; `silent` when it did not answer in time. */
export interface Whereabouts {
  readonly originId: string;
  readonly state: 'final' | 'open' | 'none' | 'silent';
  /** True if the repository has a link to the blob. */
  readonly linked: boolean;
  readonly sizeBytes?: number;
}

/**
 * Whom to ask for a blob's bytes, best first. `holders`: all of them have the whole blob, so asking two at once
 * costs nothing. `leader`: nobody has all of it; the first may have to fetch it, so the next is asked only when
 * the one before is gone.
 */
export interface SourcePlan {
  readonly type: 'holders' | 'leader';
  readonly originIds: readonly string[];
  /** Size in bytes as an origin that has a link named it. */
  readonly sizeBytes?: number;
  /** Some origin has the whole blob and a link of this repository to it. */
  readonly isDefinite: boolean;
}

/**
 * Chooses from the answers of owners and stand-ins in ring order; undefined when all were silent.
 * A whole copy beats a link: the origin that serves looks the link up itself.
 */
export function chooseSource(
  answers: readonly Whereabouts[],
  ownerIds: readonly string[],
): SourcePlan | undefined {
  const finals = answers.filter((one) => one.state === 'final');
  const size = answers.find((one) => one.linked && one.sizeBytes !== undefined)?.sizeBytes;
  const withSize = size === undefined ? {} : { sizeBytes: size };
  if (finals.length > 0) {
    const ordered = [...finals.filter((one) => one.linked), ...finals.filter((one) => !one.linked)];
    return {
      type: 'holders',
      originIds: ids(ordered),
      isDefinite: finals.some((one) => one.linked),
      ...withSize,
    };
  }
  const heard = answers.filter((one) => one.state !== 'silent');
  if (heard.length === 0) return undefined;
  const open = heard.filter((one) => one.state === 'open');
  const none = heard.filter((one) => one.state === 'none');
  const owners = none.filter((one) => ownerIds.includes(one.originId));
  const others = none.filter((one) => !ownerIds.includes(one.originId));
  return { type: 'leader', originIds: ids([...open, ...owners, ...others]), isDefinite: false, ...withSize };
}

/** How much has been learned: `all` there is to know, `holder` once a whole copy is known, else `little`. */
export type Knowledge = 'all' | 'holder' | 'little';

/**
 * Judges the answers so far. Those still silent no longer matter when they are suspects and too few to hold an
 * acknowledged copy alone.
 */
export function judgeKnowledge(
  answers: readonly Whereabouts[],
  silent: readonly string[],
  isSuspect: (id: string) => boolean,
  writeQuorum: number,
): Knowledge {
  if (silent.length === 0 || (silent.length < writeQuorum && silent.every(isSuspect))) return 'all';
  return answers.some((one) => one.state === 'final') ? 'holder' : 'little';
}

function ids(answers: readonly Whereabouts[]): string[] {
  return answers.map((one) => one.originId);
}
