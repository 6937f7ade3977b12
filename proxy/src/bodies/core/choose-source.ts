import { locate, type Whereabouts } from '@sepia/cluster/core/where';

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
  /** Wrong content was read by names of that upstream within a day: clients may hold some of that. */
  readonly cameWrong?: true;
}

/** What {@link locate} says, for a reader: its size and certainty with it. Undefined when all were silent. */
export function chooseSource(
  answers: readonly Whereabouts[],
  ownerIds: readonly string[],
): SourcePlan | undefined {
  const found = locate(answers, ownerIds);
  const heldBy = found.type === 'at' ? found.originIds : [];
  const originIds = [...heldBy, ...found.fetchIds];
  if (originIds.length === 0) return undefined;
  const size = answers.find((one) => one.linked && one.sizeBytes !== undefined)?.sizeBytes;
  return {
    type: found.type === 'at' && found.state === 'final' ? 'holders' : 'leader',
    originIds,
    isDefinite: answers.some((one) => one.state === 'final' && one.linked),
    ...(answers.some((one) => one.cameWrong) ? { cameWrong: true } : {}),
    ...(size === undefined ? {} : { sizeBytes: size }),
  };
}
