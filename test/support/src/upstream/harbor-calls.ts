import { request } from 'undici';
import { until, untilAnswered } from '../until.ts';

/** Answer of a Harbor route. */
export interface HarborAnswer {
  readonly status: number;
  readonly text: string;
  readonly json: Record<string, unknown>;
}

interface Task {
  readonly url: string;
  readonly hostname: string;
  readonly ip: string;
  readonly description?: string;
}

/** A preheat job as Harbor's Dragonfly driver reads it. */
export interface JobView {
  readonly id: number;
  readonly state: string;
  readonly error: string;
  readonly done: readonly Task[];
  readonly failed: readonly Task[];
}

/** Sends what Harbor's Go client would: JSON in, any answer out. */
export async function call(
  method: 'GET' | 'POST',
  url: string,
  body?: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<HarborAnswer> {
  const answer = await request(url, {
    method,
    headers: {
      accept: 'application/json',
      'user-agent': 'Go-http-client/1.1',
      ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      ...headers,
    },
    ...(body === undefined ? {} : { body: typeof body === 'string' ? body : JSON.stringify(body) }),
    headersTimeout: 60_000,
  });
  const text = await answer.body.text();
  let json: Record<string, unknown> = {};
  try {
    json = JSON.parse(text) as Record<string, unknown>;
  } catch {
    // Health answers are plain text.
  }
  return { status: answer.statusCode, text, json };
}

/** As {@link call}, and as Harbor does: what is refused with 503 is sent again, to what `url` names then. */
export async function sent(
  method: 'GET' | 'POST',
  url: () => string,
  body?: unknown,
  headers: Readonly<Record<string, string>> = {},
): Promise<HarborAnswer> {
  return await untilAnswered(async () => await call(method, url(), body, headers), method);
}

/** A notification as Harbor's Kraken driver sends it: capitalised, always the Docker type. */
export function krakenBody(host: string, repository: string, digest: string, tag: string): object {
  return {
    Events: [
      {
        Id: 'x'.repeat(32),
        TimeStamp: '2026-11-23T17:14:51.791348414Z',
        Action: 'push',
        Target: {
          MediaType: 'application/vnd.docker.distribution.manifest.v2+json',
          Digest: digest,
          Repository: repository,
          Url: `http://${host}/v2/${repository}/manifests/${tag}`,
          Tag: tag,
        },
        Request: null,
        Actor: null,
      },
    ],
  };
}

/** A job as Harbor's Dragonfly driver creates it. */
export function jobBody(
  host: string,
  repository: string,
  reference: string,
  scope = '',
  authorization?: string,
): object {
  return {
    type: 'preheat',
    args: {
      type: 'image',
      url: `http://${host}/v2/${repository}/manifests/${reference}`,
      tag: '',
      filtered_query_params: '',
      headers: authorization === undefined ? {} : { Authorization: authorization },
      scope,
      concurrent_count: 0,
      timeout: 0,
    },
    scheduler_cluster_ids: null,
  };
}

export function viewOf({ json }: HarborAnswer): JobView {
  const states = (json['result'] as { job_states?: unknown[] } | undefined)?.job_states ?? [];
  const first = (states[0] ?? {}) as {
    error?: string;
    results?: { success_tasks: Task[]; failure_tasks: Task[] }[];
  };
  return {
    id: json['id'] as number,
    state: json['state'] as string,
    error: first.error ?? '',
    done: first.results?.[0]?.success_tasks ?? [],
    failed: first.results?.[0]?.failure_tasks ?? [],
  };
}

/** Creates a job and asks for it, each time where `pick` says, until it ended. */
export async function runJob(
  pick: () => string,
  body: object,
  headers: Readonly<Record<string, string>> = {},
): Promise<JobView> {
  const created = await sent('POST', () => `${pick()}/oapi/v1/jobs`, body, headers);
  if (created.status !== 200) throw new Error(`${created.status} ${created.text}`);
  const { id } = viewOf(created);
  return await jobEnd(pick, id, headers);
}

export async function jobEnd(
  pick: () => string,
  id: number,
  headers: Readonly<Record<string, string>> = {},
  withinMs = 120_000,
): Promise<JobView> {
  return await until(
    async () => {
      const answer = await call('GET', `${pick()}/oapi/v1/jobs/${id}`, undefined, headers);
      // Busy, or just started.
      if (answer.status === 503) return false;
      if (answer.status !== 200) throw new Error(`${answer.status} ${answer.text}`);
      const view = viewOf(answer);
      return view.state === 'PENDING' ? false : view;
    },
    'the job ends',
    withinMs,
  );
}
