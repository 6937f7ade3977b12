import { isCoded } from '@sepia/base/errors';

const EXIT_FAILED = 1;
const EXIT_REFUSED = 2;

/** What is said of a failure that ends the command, and the exit code; all of it where nobody thought of it. */
export function lastLine(error: unknown): { readonly text: string; readonly exitCode: number } {
  if (isCoded(error)) return { text: `${error.code}: ${error.message}`, exitCode: EXIT_REFUSED };
  if (isOfFile(error)) return { text: error.message, exitCode: EXIT_REFUSED };
  return { text: (error as Error | undefined)?.stack ?? String(error), exitCode: EXIT_FAILED };
}

/** What the system says of a file or folder: its message names that. */
function isOfFile(error: unknown): error is NodeJS.ErrnoException {
  if (!(error instanceof Error)) return false;
  const { syscall, path } = error as NodeJS.ErrnoException;
  return typeof syscall === 'string' && typeof path === 'string';
}
