import { boundedRows, type JobRecord, type JobRow } from './core/job-slots.ts';

/** `POST` and `GET /oapi/v1/jobs` as Harbor's Dragonfly driver reads them; `sepia` is for our own command line. */
export function jobAnswer(job: JobRecord, all: readonly JobRow[]): Record<string, unknown> {
  const { rows, moreRows } = boundedRows(all);
  const task = ({ id, ip, description }: JobRow): Record<string, string> => ({
    url: job.url,
    hostname: id,
    ip,
    ...(description === undefined ? {} : { description }),
  });
  const failed = rows.filter(({ state }) => state === 'failed');
  return {
    id: job.id,
    created_at: new Date(job.createdAtMs).toISOString(),
    updated_at: new Date(job.updatedAtMs).toISOString(),
    type: 'preheat',
    state: job.state,
    args: { type: 'image', url: job.url, scope: job.scope },
    scheduler_cluster_ids: null,
    result: {
      job_states: [
        {
          state: job.state,
          error: job.error ?? '',
          results: [
            {
              scheduler_cluster_id: 1,
              success_tasks: rows.filter(({ state }) => state === 'done').map(task),
              failure_tasks: failed.map(task),
            },
          ],
        },
      ],
    },
    sepia: { rows, moreRows: job.moreRows + moreRows },
  };
}

const OLD_STATES = { PENDING: 'RUNNING', SUCCESS: 'SUCCESS', FAILURE: 'FAILED' } as const;

/** `GET /preheats/<id>` of the older protocol. */
export function oldAnswer(job: JobRecord): Record<string, unknown> {
  const ended = job.state === 'PENDING' ? '' : new Date(job.updatedAtMs).toISOString();
  return {
    ID: String(job.id),
    startTime: new Date(job.createdAtMs).toISOString(),
    finishTime: ended,
    errorMsg: job.error ?? '',
    Status: OLD_STATES[job.state],
  };
}
