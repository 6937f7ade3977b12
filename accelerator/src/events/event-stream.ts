import { ALIVE_MS, COME_BACK_MS } from '../deadlines.ts';
import { type JobTexts, jobChanges } from './core/job-changes.ts';
import type { JobView, JobWatch } from './job-watch.ts';

interface StreamDeps {
  readonly watch: Pick<JobWatch, 'views'>;
  readonly nowMs: () => number;
}

/**
 * Server-sent events of all jobs, or of `only`: first every job as it is, then what changes.
 *
 * `job`: a job as `GET /api/v1/conversions` lists it · `gone`: `{id}`, it is not on record any more · `current`: `{jobs}`,
 * what was told so far is what the queue holds · `lack`: `{message}`, the queue does not answer; `current` follows when it
 * does. Nothing is kept for a client: one that reads slowly, or comes back, is told what differs from what it was told.
 * The stream of one job ends when that has ended or is gone; the others with the reason of `signal`.
 */
export async function* eventStream(
  { watch, nowMs }: StreamDeps,
  only: string | undefined,
  signal: AbortSignal,
): AsyncGenerator<string> {
  let told: JobTexts = new Map();
  let lack: string | undefined;
  let isCurrent = false;
  let wroteAtMs = nowMs();
  yield `retry: ${COME_BACK_MS}\n\n`;
  for await (const view of watch.views(signal)) {
    const jobs = shown(view, only);
    let text = jobChanges(told, jobs)
      .map((change) =>
        event(change.type, change.type === 'job' ? change.text : JSON.stringify({ id: change.id })),
      )
      .join('');
    if (view.lack === undefined && (!isCurrent || lack !== undefined))
      text += event('current', JSON.stringify({ jobs: jobs.size }));
    if (view.lack !== undefined && view.lack !== lack)
      text += event('lack', JSON.stringify({ message: view.lack }));
    ({ lack } = view);
    isCurrent ||= lack === undefined;
    told = jobs;
    if (text === '' && nowMs() - wroteAtMs >= ALIVE_MS) text = ': alive\n\n';
    if (text !== '') {
      wroteAtMs = nowMs();
      yield text;
    }
    if (only !== undefined && isCurrent && (!jobs.has(only) || view.ended.has(only))) return;
  }
}

function shown({ jobs }: JobView, only: string | undefined): JobTexts {
  if (only === undefined) return jobs;
  const text = jobs.get(only);
  return new Map(text === undefined ? [] : [[only, text]]);
}

/** JSON has no line breaks, so `data` is one line. */
function event(type: string, data: string): string {
  return `event: ${type}\ndata: ${data}\n\n`;
}
