import { boundedMs } from '../bounded-ms.ts';
import { CodedError, isCoded } from '../errors.ts';
import { isBug, noteLate, outcomeOf, throwIfBug } from '../failure.ts';
import { afterOwnMs } from './own-wait.ts';
import { Verdict } from './verdict.ts';

interface HedgeOptions {
  /** The next candidate is asked beside the running ones after this silence, in ms. */
  readonly hedgeAfterMs: number;
  readonly signal?: AbortSignal;
  /** True for an answer that no other candidate can better (a definite "no"): it is thrown at once. */
  readonly isFinal?: (error: unknown) => boolean;
}

/**
 * Asks candidates in order until one answers: the next is asked when one fails or is silent for
 * `hedgeAfterMs`, or beside one that `ask` has its doubts about. The first success wins; the others are aborted, as all
 * are when the signal is. When all fail, the last error is thrown, by {@link moreTelling}; a bug is thrown at once.
 */
export async function firstAnswer<C, T>(
  candidates: readonly C[],
  ask: (candidate: C, signal: AbortSignal, doubt: () => void) => Promise<T>,
  options: HedgeOptions,
): Promise<T> {
  if (candidates.length === 0) throw new CodedError('NO_PEERS', { message: 'nobody to ask' });
  const aborts: AbortController[] = [];
  return await new Promise<T>((resolve, reject) => {
    let next = 0;
    let running = 0;
    let last: unknown;
    let timer: NodeJS.Timeout | undefined;
    let done = false;
    const finish = (settle: () => void, winner?: AbortController): void => {
      if (done) return;
      done = true;
      clearTimeout(timer);
      options.signal?.removeEventListener('abort', onAbort);
      settle();
      for (const one of aborts) if (one !== winner) one.abort(reasonOfEnd(winner, options.signal));
    };
    const onAbort = (): void => finish(() => reject(options.signal?.reason));
    const launch = (): void => {
      clearTimeout(timer);
      if (done || next >= candidates.length) return;
      const candidate = candidates[next]!;
      next += 1;
      running += 1;
      const followed = next;
      const doubt = (): void => {
        // It may be followed already, by the hedge.
        if (next === followed) launch();
      };
      const abort = new AbortController();
      aborts.push(abort);
      if (next < candidates.length) timer = setTimeout(launch, boundedMs(options.hedgeAfterMs));
      // NOTE: in an async function, so that an ask that throws at once fails like any other.
      (async () => await ask(candidate, abort.signal, doubt))().then(
        (value) => finish(() => resolve(value), abort),
        (error: unknown) => {
          running -= 1;
          if (done) return noteLate(error);
          last = moreTelling(last, error);
          if (isBug(error) || options.isFinal?.(error) === true) finish(() => reject(error));
          else if (running === 0 && next >= candidates.length) finish(() => reject(last));
          else if (next < candidates.length) launch();
        },
      );
    };
    if (options.signal?.aborted === true) return reject(options.signal.reason);
    options.signal?.addEventListener('abort', onAbort, { once: true });
    launch();
  });
}

/**
 * Of what failed before and after, what to tell: the later, unless that one was silent and the former answered "not now",
 * with its reason. A definite answer that was not final is no such reason: who is silent might know better.
 */
function moreTelling(before: unknown, after: unknown): unknown {
  const isReason = isCoded(before) && before.facts.retryable && outcomeOf(before) === 'refusal';
  return isReason && outcomeOf(after) === 'silence' ? before : after;
}

/** What one of several said that were asked the same: an answer; that it refuses, and why; or nothing. */
export type Said<C, T> =
  | { readonly by: C; readonly type: 'answer'; readonly answer: T }
  | { readonly by: C; readonly type: 'refusal' | 'silence'; readonly error: unknown };

interface AskAllOptions<C, T> {
  readonly signal?: AbortSignal | undefined;
  /** Looked at after each that said something: true ends it at once, a number when that many ms of our own are over. */
  readonly isEnough?: (said: readonly Said<C, T>[]) => boolean | number;
  /** It ends when so many ms of our own are over, whatever was said. */
  readonly mostMs?: number | undefined;
  /**
   * So many are asked at first; the others once one of these gives no answer, or all have and it is not enough, or one is
   * silent for `hedgeAfterMs`. Default: all at once.
   */
  readonly first?: { readonly count: number; readonly hedgeAfterMs: number } | undefined;
}

/**
 * Asks all at once (or some {@link AskAllOptions.first}); resolves when each has said something or it is enough. In the
 * order of `candidates`; who was not waited for is silent, and its call is aborted.
 * @throws a bug at once; the reason of `signal`
 */
export async function askAll<C, T>(
  candidates: readonly C[],
  ask: (candidate: C, signal: AbortSignal) => Promise<T>,
  { signal, isEnough, mostMs, first }: AskAllOptions<C, T> = {},
): Promise<Said<C, T>[]> {
  const over = new AbortController();
  const said = new Map<number, Said<C, T>>();
  let endGrace: (() => void) | undefined;
  let endMost: (() => void) | undefined;
  let hedge: NodeJS.Timeout | undefined;
  let onAbort = (): void => {};
  try {
    signal?.throwIfAborted();
    const verdict = new Verdict<void>();
    onAbort = () => verdict.fail(signal?.reason);
    signal?.addEventListener('abort', onAbort, { once: true });
    const note = (index: number, one: Said<C, T>): void => {
      said.set(index, one);
      // The rule is asked first: one that is wrong must not be hidden by the last answer.
      const enough = isEnough?.([...said.values()]) ?? false;
      if (enough === true || said.size === candidates.length) verdict.give();
      else {
        if (enough !== false) endGrace ??= afterOwnMs(enough, () => verdict.give());
        if (one.type !== 'answer' || said.size === asked) askUpTo(candidates.length);
      }
    };
    let asked = 0;
    const askUpTo = (count: number): void => {
      for (; asked < count && !over.signal.aborted; asked++) {
        const [index, by] = [asked, candidates[asked]!];
        settle(by, async () => await ask(by, over.signal))
          .then((one) => note(index, one))
          .catch((error: unknown) => verdict.fail(error));
      }
    };
    if (mostMs !== undefined) endMost = afterOwnMs(mostMs, () => verdict.give());
    askUpTo(Math.min(first?.count ?? candidates.length, candidates.length));
    if (first !== undefined && asked < candidates.length)
      hedge = setTimeout(() => askUpTo(candidates.length), boundedMs(first.hedgeAfterMs));
    if (candidates.length === 0) verdict.give();
    await verdict.outcome;
  } finally {
    endGrace?.();
    endMost?.();
    clearTimeout(hedge);
    signal?.removeEventListener('abort', onAbort);
    over.abort(reasonOfEnd(undefined, signal));
  }
  return candidates.map(
    (by, index) => said.get(index) ?? { by, type: 'silence', error: new CodedError('TIMEOUT') },
  );
}

async function settle<C, T>(by: C, ask: () => Promise<T>): Promise<Said<C, T>> {
  try {
    return { by, type: 'answer', answer: await ask() };
  } catch (error) {
    const type = outcomeOf(error);
    if (type === 'bug') throw error;
    return { by, type, error };
  }
}

/** The answers among what was said, in the order of the candidates; refusals and silences are left out. */
export function answersOf<C, T>(said: readonly Said<C, T>[]): T[] {
  return said.flatMap((one) => (one.type === 'answer' ? [one.answer] : []));
}

/** Who gave no answer, in the order of {@link askAll}. */
export function withoutAnswer<C, T>(said: readonly Said<C, T>[]): C[] {
  return said.flatMap((one) => (one.type === 'answer' ? [] : [one.by]));
}

/** As {@link askAll} where every one has to answer. @throws what the first that does not answer failed with */
export async function askEvery<C, T>(
  candidates: readonly C[],
  ask: (candidate: C, signal: AbortSignal) => Promise<T>,
): Promise<T[]> {
  let failed: { readonly error: unknown } | undefined;
  const said = await askAll(candidates, ask, {
    isEnough: (soFar) => {
      const last = soFar.at(-1);
      if (last !== undefined && last.type !== 'answer') failed ??= last;
      return failed !== undefined;
    },
  });
  if (failed !== undefined) throw failed.error;
  return answersOf(said);
}

/**
 * Asks one after the other, never two at once, until one answers: for what may be done once only.
 * @throws a bug, what `isFinal` says no other would better and the reason of `signal` at once; the last error, by
 * {@link moreTelling}, when all have failed, `NO_PEERS` when there is nobody to ask
 */
export async function askInTurn<C, T>(
  candidates: Iterable<C>,
  ask: (candidate: C) => Promise<T>,
  { signal, isFinal }: { readonly signal?: AbortSignal; readonly isFinal?: (error: unknown) => boolean } = {},
): Promise<T> {
  let last: unknown;
  for (const candidate of candidates) {
    signal?.throwIfAborted();
    try {
      return await ask(candidate);
    } catch (error) {
      throwIfBug(error);
      signal?.throwIfAborted();
      if (isFinal?.(error) === true) throw error;
      last = moreTelling(last, error);
    }
  }
  throw last ?? new CodedError('NO_PEERS', { message: 'nobody to ask' });
}

function reasonOfEnd(winner: AbortController | undefined, signal: AbortSignal | undefined): unknown {
  if (winner !== undefined) return new CodedError('TIMEOUT', { message: 'another member was faster' });
  return signal?.aborted === true
    ? signal.reason
    : new CodedError('TIMEOUT', { message: 'the answer is known' });
}
