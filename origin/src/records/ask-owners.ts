import { CodedError, type ErrorDetail } from '@sepia/base/errors';
import type { Shard } from '@sepia/cluster/ring';
import type { Members } from '../cluster/members.ts';
import { PATIENT_MS } from '../deadlines/members.ts';
import { askCounted, type CountedAnswer } from './ask-counted.ts';
import type { OwnStanding } from './own-standing.ts';

/** So often something is asked or written while the ring changes, or a later clock stands in the way. */
export const MAX_TRIES = 5;

interface AskOwnersDeps {
  readonly members: Pick<Members, 'selfId' | 'epoch' | 'news' | 'isSuspect'>;
  readonly standing: Pick<OwnStanding, 'sender' | 'within'>;
}

/** What a call to another member carries. */
export interface Under {
  /** Of the membership it is asked by. */
  readonly epoch: number;
  readonly signal?: AbortSignal;
  /** In place of what such a call may take otherwise. */
  readonly headersTimeoutMs?: number;
}

/** What one member is asked. */
interface MemberQuestion<A> {
  /** By this origin's own records. */
  readonly own: () => Promise<A>;
  /** By a call that carries `under`. */
  readonly other: (id: string, under: Under) => Promise<CountedAnswer<A>>;
}

interface Question<A> extends MemberQuestion<A> {
  /** Who is asked, by the membership of now. */
  readonly owners: () => Shard;
  /** True for answers that more of them cannot change; default: never. */
  readonly settles?: (answers: readonly A[]) => boolean;
  /** True when those of them who answered are enough; default: a read quorum. */
  readonly isEnough?: (ids: readonly string[], owners: Shard) => boolean;
  /** What is said when too few answer. */
  readonly lost: (owners: Shard) => { readonly message: string; readonly detail: ErrorDetail };
}

/**
 * Asks owners under one membership until enough of their answers count or settle it; asks again where too few did
 * because the ring changed meanwhile, and once more, with patience, where owners were silent that no
 * question before found so.
 * @throws `QUORUM_LOST`
 */
export async function askOwners<A>(deps: AskOwnersDeps, question: Question<A>): Promise<A[]> {
  const { settles = () => false, isEnough } = question;
  let patience: Pick<Under, 'headersTimeoutMs'> = {};
  for (let tries = 1; ; tries++) {
    const owners = question.owners();
    const suspects = new Set(owners.sets.flat().filter((id) => deps.members.isSuspect(id)));
    const found = await askCounted(
      owners,
      async (id) => await askMember(deps, id, { epoch: owners.epoch, ...patience }, question),
      settles,
      isEnough === undefined ? undefined : (ids) => isEnough(ids, owners),
      inOrder(owners, deps.members.selfId, suspects),
    );
    if (found.isEnough) return found.answers;
    if (tries < MAX_TRIES && !(await isSameEpoch(deps.members, owners.epoch))) continue;
    if (settles(found.answers)) return found.answers;
    const isNew = found.silent.some((id) => !suspects.has(id));
    if (isNew && patience.headersTimeoutMs === undefined && tries < MAX_TRIES) {
      patience = { headersTimeoutMs: PATIENT_MS };
      continue;
    }
    throw new CodedError('QUORUM_LOST', question.lost(owners));
  }
}

/** This origin costs no call; who did not answer lately is asked last. */
function inOrder({ sets }: Shard, selfId: string, suspects: ReadonlySet<string>): string[] {
  const rank = (id: string): number => (id === selfId ? 0 : suspects.has(id) ? 2 : 1);
  return [...new Set(sets.flat())].sort((a, b) => rank(a) - rank(b));
}

/** Asks one of them: this origin's own records within the epoch, any other by its call. @throws `EPOCH_OUTDATED` */
export async function askMember<A>(
  { members, standing }: AskOwnersDeps,
  id: string,
  under: Under,
  { own, other }: MemberQuestion<A>,
): Promise<CountedAnswer<A>> {
  if (id !== members.selfId) return await other(id, under);
  const answer = await standing.within(under.epoch, own);
  return { sender: standing.sender, answer };
}

/** True if the membership still is that of `epoch`; news of it that came with a refusal are waited for. */
export async function isSameEpoch(members: AskOwnersDeps['members'], epoch: number): Promise<boolean> {
  await members.news();
  return members.epoch === epoch;
}
