import { CodedError, type ErrorCode, isErrorCode } from '@sepia/base/errors';
import { ignoreFailure, throwIfBug } from '@sepia/base/failure';
import { readLimited } from '@sepia/http/client';
import type { Dispatcher } from '@sepia/http/sockets';
import { printable } from '../terminal/format.ts';

/** Of what a registry says of an error so much is shown. */
const MAX_SAID_CHARS = 1_000;

function errorsIn(answer: unknown): readonly ({ code?: string; message?: string } | null)[] {
  const errors = (answer as { errors?: unknown } | null)?.errors;
  return Array.isArray(errors) ? errors : [];
}

/** What an answer with an error status says, in the code that it names. Reads its body. `username`: whose account was shown. */
export async function errorOf(
  { url, username }: { readonly url: string; readonly username?: string | undefined },
  answer: Dispatcher.ResponseData,
): Promise<CodedError> {
  const bytes = await readLimited(answer.body, 64 * 1024, url).catch(ignoreFailure);
  let text = `HTTP ${answer.statusCode}`;
  try {
    const [first] = errorsIn(JSON.parse(bytes?.toString('utf8') ?? ''));
    if (first?.message !== undefined)
      text = printable(`${first.code ?? text}: ${first.message}`.slice(0, MAX_SAID_CHARS));
  } catch (error) {
    throwIfBug(error);
    // Not an OCI error: the status must do.
  }
  const advice =
    username === undefined
      ? '; give --user and --password-file, or run docker login'
      : `; user or password is wrong for ${username}, or that account may not do this`;
  const hint = answer.statusCode === 401 ? advice : '';
  return new CodedError(answeredCode(answer), {
    message: `${url} answered ${text}${hint}`,
    detail: { status: answer.statusCode },
  });
}

/**
 * The code that an answer with an error status stands for: a member's own, else by the status. `REGISTRY_DOWN` where whoever
 * answered is at fault or wants to be asked later, `REQUEST_INVALID` for what else is refused.
 */
export function answeredCode(answer: Pick<Dispatcher.ResponseData, 'statusCode' | 'headers'>): ErrorCode {
  const named = headerOf(answer, 'sepia-error') ?? '';
  if (isErrorCode(named)) return named;
  const { statusCode: status } = answer;
  if (status === 401) return 'AUTH_REQUIRED';
  return status >= 500 || status === 429 ? 'REGISTRY_DOWN' : 'REQUEST_INVALID';
}

/** The first value of a header. */
export function headerOf(
  answer: Pick<Dispatcher.ResponseData, 'headers'> | undefined,
  name: string,
): string | undefined {
  const value = answer?.headers[name];
  return Array.isArray(value) ? value[0] : value;
}
