import { firstAnswer } from '@sepia/base/async/ask-many';
import { afterOwnMs } from '@sepia/base/async/own-wait';
import { CodedError } from '@sepia/base/errors';
import { readElsewhere, throwIfBug } from '@sepia/base/failure';
import { pause } from '@sepia/base/lifecycle';
import { isOutOfFiles } from '@sepia/base/system/open-files';
import { AnswerPace } from '@sepia/http/answer-pace';
import {
  ASK_AFTER_MS,
  ASK_AGAIN_MS,
  ASK_MS,
  HEARD_MS,
  LEAST_SILENT_MS,
  VIGIL_EVERY_MS,
  VIGIL_LINGER_MS,
  VIGIL_NEXT_MS,
} from '../deadlines.ts';
import { nobodyAnswers } from '../source/core/silence.ts';

interface Asked {
  readonly id: string;
}

interface VigilDeps<T> {
  readonly nowMs: () => number;
  /** Resolves when the member answers a small question. @throws when it does not */
  readonly ask: (member: T, signal: AbortSignal) => Promise<void>;
  /** Whether the member answered anything within so many ms. */
  readonly heardWithin: (id: string, ms: number) => boolean;
}

/** What is known of some members together. */
interface Outlook<T> {
  readonly members: readonly T[];
  /** Requests that wait for them. */
  readonly waiting: Set<(error: unknown) => void>;
  /** Why they count as silent now. */
  silence: CodedError | undefined;
  neededMs: number;
}

/**
 * Whether anybody at all is there of those whom a request needs. They are asked beside each other, in whichever order the
 * request itself gets to them: a cluster that hangs is found out in one time, not in one for each kind of member.
 */
export class Vigil<T extends Asked> {
  readonly #deps: VigilDeps<T>;
  readonly #pace = new AnswerPace();
  readonly #outlooks = new Map<string, Outlook<T>>();
  readonly #stopped = new AbortController();

  constructor(deps: VigilDeps<T>) {
    this.#deps = deps;
  }

  stop(): void {
    this.#stopped.abort(new CodedError('DRAINING'));
  }

  /**
   * Runs `work`, for as long as any of `members` answers anything: however slow they are.
   * @throws {CodedError} `NO_PEERS` when none does; `work` is aborted then, as it is with `signal`
   */
  async attend<R>(
    members: readonly T[],
    work: (signal: AbortSignal) => Promise<R>,
    signal: AbortSignal,
  ): Promise<R> {
    signal.throwIfAborted();
    const over = new AbortController();
    const done = new AbortController();
    const onAbort = (): void => over.abort(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    try {
      const silence = this.#untilSilent(members, done.signal);
      readElsewhere(silence, () => over.abort(new CodedError('NO_PEERS', { message: 'nobody answers' })));
      const answer = work(over.signal);
      readElsewhere(answer);
      return await Promise.race([silence, answer]);
    } finally {
      done.abort();
      signal.removeEventListener('abort', onAbort);
    }
  }

  /** Never resolves. @throws {CodedError} `NO_PEERS` once all are silent */
  async #untilSilent(members: readonly T[], done: AbortSignal): Promise<never> {
    const key = members
      .map(({ id }) => id)
      .toSorted()
      .join('\n');
    const isAlarmed = [...this.#outlooks.values()].some(({ silence }) => silence !== undefined);
    const quietMs = isAlarmed || this.#outlooks.has(key) ? 0 : ASK_AFTER_MS;
    if (members.length > 0 && (await pause(quietMs, done))) {
      const outlook = this.#outlooks.get(key) ?? this.#begin(key, members);
      outlook.neededMs = this.#deps.nowMs();
      if (outlook.silence !== undefined) throw outlook.silence;
      return await new Promise<never>((_, reject) => {
        outlook.waiting.add(reject);
        done.addEventListener('abort', () => outlook.waiting.delete(reject), { once: true });
      });
    }
    return await new Promise<never>(() => {});
  }

  #begin(key: string, members: readonly T[]): Outlook<T> {
    const outlook: Outlook<T> = { members, waiting: new Set(), silence: undefined, neededMs: 0 };
    this.#outlooks.set(key, outlook);
    this.#watch(outlook)
      .catch((error: unknown) => {
        for (const fail of outlook.waiting) fail(error);
      })
      .finally(() => this.#outlooks.delete(key));
    return outlook;
  }

  /** Asks for as long as somebody needs to know. */
  async #watch(outlook: Outlook<T>): Promise<void> {
    const { nowMs } = this.#deps;
    /** Since when nothing that they were asked was answered. */
    let sinceMs: number | undefined;
    for (let waitMs = 0; await pause(waitMs, this.#stopped.signal); ) {
      const askedMs = nowMs();
      if (outlook.waiting.size > 0) outlook.neededMs = askedMs;
      else if (outlook.silence === undefined || askedMs - outlook.neededMs > VIGIL_LINGER_MS) return;
      const isSilent = outlook.silence !== undefined;
      const withinMs = isSilent ? ASK_MS : this.#pace.timeoutMs(LEAST_SILENT_MS, ASK_MS);
      const isHeard = this.#heard(outlook, HEARD_MS);
      if (isHeard || (await this.#anyAnswers(outlook.members, withinMs))) {
        sinceMs = undefined;
        outlook.silence = undefined;
        waitMs = isHeard ? HEARD_MS : VIGIL_EVERY_MS;
        continue;
      }
      sinceMs ??= askedMs;
      waitMs = ASK_AGAIN_MS;
      const silentMs = nowMs() - sinceMs;
      if (silentMs >= withinMs - ASK_AGAIN_MS && !this.#heard(outlook, silentMs)) conclude(outlook, silentMs);
    }
  }

  #heard({ members }: Outlook<T>, ms: number): boolean {
    return members.some(({ id }) => this.#deps.heardWithin(id, ms));
  }

  async #anyAnswers(members: readonly T[], withinMs: number): Promise<boolean> {
    const late = new AbortController();
    const answered = afterOwnMs(withinMs, () => late.abort(new CodedError('TIMEOUT')));
    const ask = async (member: T, signal: AbortSignal): Promise<void> => {
      const askedMs = this.#deps.nowMs();
      await this.#deps.ask(member, signal);
      this.#pace.note(this.#deps.nowMs() - askedMs);
    };
    try {
      await firstAnswer(members, ask, {
        hedgeAfterMs: VIGIL_NEXT_MS,
        signal: AbortSignal.any([late.signal, this.#stopped.signal]),
      });
      return true;
    } catch (error) {
      throwIfBug(error);
      // Nobody was asked: nothing is known of them.
      return isOutOfFiles(error);
    } finally {
      answered();
    }
  }
}

function conclude(outlook: Outlook<Asked>, silentMs: number): void {
  const ids = outlook.members.map(({ id }) => id);
  // They were silent before they were asked.
  outlook.silence = nobodyAnswers(ids, silentMs + ASK_AFTER_MS);
  for (const fail of outlook.waiting) fail(outlook.silence);
}
