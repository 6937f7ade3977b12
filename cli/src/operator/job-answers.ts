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

/** What was asked of all was not done by these: the exit code says so too. */
export function toldOfSilent(silent: readonly string[]): string {
  if (silent.length === 0) return '';
  process.exitCode = 1;
  return ` (no answer from ${silent.join(', ')})`;
}
