import type { Where } from '../api/blob-answers.ts';

/** What an origin said it has of a blob; `silent`: nothing, nothing in time, or nothing that can be understood. */
export interface Whereabouts {
  readonly originId: string;
  readonly state: Where['state'] | 'silent';
  /** True if the repository has a link to the blob, by that origin's own record. */
  readonly linked: boolean;
  readonly sizeBytes?: number;
  /** What was read of the blob under that upstream within a day came out wrong: clients may hold some of that. */
  readonly cameWrong?: true;
}

/** Where a blob is, and who may be asked for it. @see locate */
export type Located =
  | {
      readonly type: 'at';
      /** `final`: each has the whole blob, so that several may be asked at once. `open`: each fetches it now. */
      readonly state: 'final' | 'open';
      /** Whom to ask, best first; at least one. */
      readonly originIds: readonly [string, ...string[]];
      /** Of a blob that is fetched: who may fetch it once all of `originIds` are gone, in order. */
      readonly fetchIds: readonly string[];
    }
  | {
      /** `absent`: every one that could hold a copy said no. `undecided`: one that could did not say. */
      readonly type: 'absent' | 'undecided';
      /** Who may fetch it from the upstream, in order; none where nobody answers. */
      readonly fetchIds: readonly string[];
    };

/**
 * Who has a blob, by what each that could hold it (owners and stand-ins, in ring order; all of them) said. The one rule of
 * tracker, proxy and origins:
 *
 * - A whole copy wins over one that is being fetched; whoever has it *and* a link to it comes first, else ring order. The
 *   link is a hint alone: who serves looks it up.
 * - A fetch under way is joined, never doubled: nobody else may fetch while one of those that do lives.
 * - Else whoever said no may fetch it, owners before stand-ins. One at a time, the next when the one before is gone.
 * - Who was silent is never named, and nothing is `absent` while one is silent: "unknown" may then not be said, though the
 *   upstream may be asked.
 */
export function locate(answers: readonly Whereabouts[], ownerIds: readonly string[]): Located {
  const [final, ...otherFinals] = [
    ...idsOf(
      answers.filter((one) => one.linked),
      'final',
    ),
    ...idsOf(
      answers.filter((one) => !one.linked),
      'final',
    ),
  ];
  if (final !== undefined)
    return { type: 'at', state: 'final', originIds: [final, ...otherFinals], fetchIds: [] };
  const without = idsOf(answers, 'none');
  const fetchIds = [
    ...without.filter((id) => ownerIds.includes(id)),
    ...without.filter((id) => !ownerIds.includes(id)),
  ];
  const [open, ...otherOpens] = idsOf(answers, 'open');
  if (open !== undefined) return { type: 'at', state: 'open', originIds: [open, ...otherOpens], fetchIds };
  return { type: without.length === answers.length ? 'absent' : 'undecided', fetchIds };
}

function idsOf(answers: readonly Whereabouts[], state: Whereabouts['state']): string[] {
  return answers.filter((one) => one.state === state).map((one) => one.originId);
}

/** Reads an origin's answer. What names no state that is known says nothing: it is silence, never a no. */
export function toldBy(originId: string, answer: { readonly [K in keyof Where]?: unknown }): Whereabouts {
  const { state, sizeBytes, linked, cameWrong } = answer;
  if (state !== 'final' && state !== 'open' && state !== 'none') return silent(originId);
  const isSize = typeof sizeBytes === 'number' && Number.isSafeInteger(sizeBytes) && sizeBytes >= 0;
  return {
    originId,
    state,
    linked: linked === true,
    ...(isSize ? { sizeBytes } : {}),
    ...(cameWrong === true ? { cameWrong } : {}),
  };
}

/** What is known of an origin that said nothing. */
export function silent(originId: string): Whereabouts {
  return { originId, state: 'silent', linked: false };
}

/** What one of several said that were asked, as `askAll` of base tells it. */
type Said =
  | { readonly by: string; readonly type: 'answer'; readonly answer: Whereabouts }
  | { readonly by: string; readonly type: 'refusal' | 'silence' };

/** The answers of all that were asked, in that order. A refusal counts as silence: that origin may have a copy nevertheless. */
export function allToldBy(said: readonly Said[]): Whereabouts[] {
  return said.map((one) => (one.type === 'answer' ? one.answer : silent(one.by)));
}

/** How much has been learned: `all` there is to know, `holder` once a whole copy is known, else `little`. */
export type Knowledge = 'all' | 'holder' | 'little';

/**
 * Judges the answers so far; `waitedFor`: who has not answered yet. They no longer matter when they are suspects and too few
 * to hold an acknowledged copy alone.
 */
export function judgeKnowledge(
  answers: readonly Whereabouts[],
  waitedFor: readonly string[],
  isSuspect: (id: string) => boolean,
  writeQuorum: number,
): Knowledge {
  if (waitedFor.length === 0 || (waitedFor.length < writeQuorum && waitedFor.every(isSuspect))) return 'all';
  return hasHolder(answers) ? 'holder' : 'little';
}

/** True once somebody has the whole blob: nobody's answer betters that. */
export function hasHolder(answers: readonly Whereabouts[]): boolean {
  return answers.some((one) => one.state === 'final');
}
