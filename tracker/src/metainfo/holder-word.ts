import { answersOf, askAll } from '@sepia/base/async/ask-many';
import { LinkedAbort } from '@sepia/base/async/linked-abort';
import { ownPause } from '@sepia/base/async/own-wait';
import { CodedError } from '@sepia/base/errors';
import { readElsewhere } from '@sepia/base/failure';
import type { BlobName } from '@sepia/base/names/blob-name';
import { allToldBy, hasHolder, type Whereabouts } from '@sepia/cluster/core/where';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import { LEAST_LATE_MS, LEAST_SILENCE_MS, MOST_LATE_MS } from '../deadlines.ts';
import { graceMs } from './core/leader-wait.ts';
import type { Origins } from './origins.ts';

/** A link that was proven before, what is known of its blob, and one that was found to hold all of it. */
interface Holding {
  readonly name: BlobName;
  readonly known: Metainfo;
  readonly holderId: string;
  /** Somebody waits for the answer: no longer than for the holder's word. */
  readonly isAwaited: boolean;
}

/** What came of it, and what the others have. */
export type HolderWord =
  /** The link is there, and the whole blob by this metainfo. */
  | { readonly type: 'yes'; readonly metainfo: Metainfo; readonly answers: readonly Whereabouts[] }
  /** The holder says something else: all are to be asked as if nothing were known. */
  | { readonly type: 'no' }
  /** The holder is silent, or later by far than another that has the blob. */
  | { readonly type: 'silent'; readonly answers: readonly Whereabouts[] };

type Asked = Pick<Origins, 'candidates' | 'pace' | 'whereAt' | 'word'>;

/**
 * Looks a link up again: its holder is asked for its word, all others beside it what they have, one call to each. The
 * word ends it; where nobody waits the others have a moment more, so that all who have the blob are known. @throws a bug
 */
export async function askHolder(origins: Asked, holding: Holding, signal: AbortSignal): Promise<HolderWord> {
  const { name, holderId, isAwaited } = holding;
  const { ids } = origins.candidates(name.digest);
  const lateMs = origins.pace.timeoutMs(LEAST_LATE_MS, MOST_LATE_MS);
  const askedMs = performance.now();
  let metainfo: Metainfo | undefined;
  let isAlive = false;
  const ask = async (originId: string): Promise<Whereabouts> => {
    if (originId !== holderId) return await origins.whereAt(originId, name, LEAST_SILENCE_MS, signal);
    const onAlive = (): void => {
      isAlive = true;
    };
    metainfo = await wordOf(origins, holding, { lateMs, onAlive }, signal);
    return { originId, state: metainfo.state, linked: true };
  };
  const said = await askAll(ids, ask, {
    isEnough: (so) => {
      const word = so.find(({ by }) => by === holderId);
      if (word?.type === 'refusal') return true;
      if (word?.type === 'answer') return isAwaited || lateMs;
      if (!hasHolder(answersOf(so))) return false;
      return word !== undefined || graceMs(performance.now() - askedMs, lateMs);
    },
  });
  const answers = allToldBy(said);
  const isAnswered = said.some(({ by, type }) => by === holderId && type === 'answer');
  if (isAnswered && metainfo?.state === 'final') return { type: 'yes', metainfo, answers };
  const isRefused = said.some(({ by, type }) => by === holderId && type === 'refusal');
  // One that lives but thinks is asked again with all others: nobody fetches what it has.
  if (isAnswered || isRefused || (isAlive && !hasHolder(answers))) return { type: 'no' };
  if (!signal.aborted && answersOf(said).length === 0) origins.pace.missed();
  return { type: 'silent', answers };
}

/** The word of a holder. One that is late is asked what it has as well, which needs no thought: only then it may be silent. */
async function wordOf(
  origins: Asked,
  { name, holderId, known }: Holding,
  { lateMs, onAlive }: { readonly lateMs: number; readonly onAlive: () => void },
  signal: AbortSignal,
): Promise<Metainfo> {
  const over = new LinkedAbort(signal);
  const lookBeside = async (): Promise<never> => {
    if (await ownPause(lateMs, over.signal)) {
      const { state } = await origins.whereAt(holderId, name, LEAST_SILENCE_MS, over.signal);
      onAlive();
      // It fetches it anew, which may take long: it is asked with all others.
      if (state === 'none' || state === 'open') throw new CodedError('BLOB_UNKNOWN');
    }
    return await new Promise<never>(() => {});
  };
  try {
    const word = origins.word(holderId, name, known, over.signal);
    const silence = lookBeside();
    readElsewhere(word);
    readElsewhere(silence);
    return await Promise.race([word, silence]);
  } finally {
    over.abort(new CodedError('TIMEOUT', { message: 'the answer is known' }));
  }
}
