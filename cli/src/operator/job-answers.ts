interface Answered {
  readonly id: string;
  readonly error?: unknown;
}

/** What tells most about a job that several origins have on record comes first. */
const STATE_ORDER = ['running', 'backoff', 'waiting', 'intent', 'dead'];

/** Each job once, as the origin tells it that knows most of it. */
export function mergedJobs<J extends { readonly id: string; readonly state: string }>(
  jobs: readonly J[],
): J[] {
  const found = new Map<string, J>();
  for (const job of jobs) {
    const known = found.get(job.id);
    if (known === undefined || STATE_ORDER.indexOf(job.state) < STATE_ORDER.indexOf(known.state))
      found.set(job.id, job);
  }
  return [...found.values()];
}

/** Origins that did not answer. @throws what they failed with, if none did */
export function silentOf(answers: readonly Answered[]): string[] {
  const silent = answers.filter((one) => one.error !== undefined);
  if (silent.length === answers.length) throw silent[0]?.error;
  return silent.map((one) => one.id);
}

/** The origins that did not answer, for the end of a sentence. */
export function toldOfSilent(silent: readonly string[]): string {
  return silent.length === 0 ? '' : ` (no answer from ${silent.join(', ')})`;
}

/** Says that something was done; where not all origins did it, the process exits with 1. */
export function tellDone(what: string, silent: readonly string[], more = ''): void {
  process.stdout.write(`${what}${toldOfSilent(silent)}${more}\n`);
  exitBySilent(silent);
}

/** Exits with 1 in the end where not all origins took part. */
export function exitBySilent(silent: readonly string[]): void {
  if (silent.length > 0) process.exitCode = 1;
}
