/**
 * Imported for its effect: a promise that nobody handles, or an exception that nobody catches, in any member fails
 * the whole test file, also one that comes after the last assertion.
 */
const bail = (event: string) => (reason: unknown) => {
  process.stdout.write(`Bail out! ${event}: ${String((reason as Error)?.message ?? reason)}\n`);
  process.stderr.write(`${event}: ${(reason as Error)?.stack ?? String(reason)}\n`);
  process.exit(1);
};

process.prependListener('unhandledRejection', bail('unhandled rejection'));
process.prependListener('uncaughtException', bail('uncaught exception'));
