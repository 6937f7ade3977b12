import { isCoded, systemCode } from './errors.ts';

/**
 * How something that was asked of another part, process or machine ended, if not with an answer:
 * `refusal`: it said no, and why; `silence`: it said nothing in time or is gone; `bug`: our own code is wrong.
 */
export type Failure = 'refusal' | 'silence' | 'bug';

/** What {@link logFailure} needs of a logger. */
interface FailureLog {
  debug(facts: object, message: string): void;
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
}

/** Errors that JavaScript, Node and undici throw at code that is wrong. */
const BUG_CLASSES = [TypeError, RangeError, ReferenceError, EvalError] as const;
const BUG_CODES: ReadonlySet<string> = new Set([
  'ERR_ASSERTION',
  'ERR_INVALID_ARG_TYPE',
  'ERR_INVALID_ARG_VALUE',
  'ERR_OUT_OF_RANGE',
  'ERR_MISSING_ARGS',
  'ERR_HTTP_HEADERS_SENT',
  'UND_ERR_INVALID_ARG',
]);
/** Codes of `TypeError`s and `RangeError`s that say that foreign bytes or text are not valid. */
const INPUT_CODES: ReadonlySet<string> = new Set([
  'ERR_INVALID_URL',
  'ERR_ENCODING_INVALID_ENCODED_DATA',
  'ERR_INVALID_IP_ADDRESS',
  'ERR_BUFFER_TOO_LARGE',
]);
/** Coded errors that mean that nobody answered. */
const SILENT_CODES: ReadonlySet<string> = new Set(['PEER_HTTP', 'TIMEOUT', 'BACKEND_DOWN', 'DRAINING']);

let seen = 0;
const listeners = new Set<(bug: unknown) => void>();

/**
 * True for what only wrong code of our own can throw: `TypeError`, `RangeError`, `ReferenceError`, a failed assertion,
 * an argument that Node or undici refuses. Never for a coded error, a system error, an abort, or an error of a parser
 * about foreign text.
 */
export function isBug(thrown: unknown): boolean {
  if (isCoded(thrown)) return false;
  if (thrown instanceof AggregateError) return thrown.errors.some(isBug);
  const code = systemCode(thrown);
  if (code !== undefined && INPUT_CODES.has(code)) return false;
  if (code !== undefined && BUG_CODES.has(code)) return true;
  return BUG_CLASSES.some((one) => thrown instanceof one);
}

/** Tells refusal, silence and bug apart. What is neither coded nor known counts as silence: nothing was answered. */
export function outcomeOf(thrown: unknown): Failure {
  if (isBug(thrown)) return 'bug';
  if (!isCoded(thrown)) return 'silence';
  return SILENT_CODES.has(thrown.code) && thrown.detail['status'] === undefined ? 'silence' : 'refusal';
}

/** The first line of a `catch` that makes an outcome of a failure: a bug is thrown on. */
export function throwIfBug(thrown: unknown): void {
  if (isBug(thrown)) throw thrown;
}

/** For `.catch(…)` where a failure changes nothing: resolves to undefined. A bug is thrown on. */
export function ignoreFailure(thrown: unknown): undefined {
  throwIfBug(thrown);
  return undefined;
}

/**
 * The end of a background task that goes on, or is begun again, after a failure: logs it, at `level`. A bug is logged
 * at `error` and counted ({@link bugsSeen}); there is nobody above to whom it could be thrown.
 */
export function logFailure(
  log: FailureLog,
  thrown: unknown,
  message: string,
  facts: Readonly<Record<string, unknown>> = {},
  level: 'debug' | 'info' | 'warn' | 'error' = 'warn',
): void {
  if (noteBug(thrown)) log.error({ ...facts, err: thrown, bug: true }, message);
  else log[level]({ ...facts, err: thrown }, message);
}

/** Counts `thrown` if it is a bug, and says whether it is. For the outermost place that a bug reaches. */
export function noteBug(thrown: unknown): boolean {
  if (!isBug(thrown)) return false;
  seen += 1;
  return true;
}

/** For a failure that comes when nobody waits for it any more: a bug is counted and told to {@link onLateBug}. */
export function noteLate(thrown: unknown): void {
  if (noteBug(thrown)) for (const listener of listeners) listener(thrown);
}

/** Calls `listener` with every bug of {@link noteLate}, in this process; what is returned ends that. */
export function onLateBug(listener: (bug: unknown) => void): () => void {
  listeners.add(listener);
  return () => {
    listeners.delete(listener);
  };
}

/** Bugs that were met in this process, for `sepia_bugs_total`. */
export function bugsSeen(): number {
  return seen;
}

/**
 * For a promise that others await, later or elsewhere: they get its failure, and here it is no unhandled rejection.
 * `onFailure` runs when it fails.
 */
export function readElsewhere(promise: Promise<unknown>, onFailure: () => void = () => {}): void {
  promise.then(undefined, onFailure);
}

/** Resolves when `promise` has ended, well or not: its failure is read by others. */
export async function ended(promise: Promise<unknown> | undefined): Promise<void> {
  if (promise !== undefined) await Promise.allSettled([promise]);
}

/** Resolves when all have ended well. @throws the first failure of them, once all have ended */
export async function allEnded(work: readonly (Promise<unknown> | undefined)[]): Promise<void> {
  const failed = (await Promise.allSettled(work)).find((one) => one.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}

/**
 * Runs a third party's parser on foreign bytes or text: whatever it throws, be it a `TypeError`, is a fault of what it
 * read. Never for code of our own.
 */
export function tryParse<T>(
  parse: () => T,
): { readonly ok: true; readonly value: T } | { readonly ok: false; readonly cause: unknown } {
  try {
    return { ok: true, value: parse() };
  } catch (cause) {
    return { ok: false, cause };
  }
}
