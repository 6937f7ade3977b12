import { systemCode } from '@sepia/base/errors';

/** What shells say of a program that SIGPIPE ended. */
const EXIT_PIPE = 141;
const EXIT_REFUSED = 2;

/** Where a command ends because its output cannot be written: nothing is said to who left (`| head`), else what the system says. */
function outputEnd(error: unknown): { readonly text: string | undefined; readonly exitCode: number } {
  const code = systemCode(error);
  if (code === 'EPIPE') return { text: undefined, exitCode: EXIT_PIPE };
  return { text: `standard output cannot be written (${code})`, exitCode: EXIT_REFUSED };
}

/** Ends this process where its output does: a service in order, as by a signal, any other command at once. */
export function endWithOutput(stdout: NodeJS.WriteStream): void {
  let isOver = false;
  stdout.on('error', (error) => {
    if (isOver) return;
    isOver = true;
    const { text, exitCode } = outputEnd(error);
    if (text !== undefined) process.stderr.write(`sepia: ${text}\n`);
    if (process.listenerCount('SIGTERM') > 0) process.kill(process.pid, 'SIGTERM');
    else process.exit(exitCode);
  });
}
