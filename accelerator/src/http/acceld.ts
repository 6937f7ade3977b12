import { isObject } from '@sepia/base/json/plain-object';
import type { ConversionJob } from '@sepia/cluster/api/conversions';

/** A job as Harbor's acceleration-service lists it, and what we know beyond. */
export interface AcceldTask {
  readonly id: string;
  readonly created: string;
  readonly finished: string | null;
  readonly source: string;
  readonly source_size: number;
  readonly target_size: number;
  readonly status: 'PROCESSING' | 'COMPLETED' | 'FAILED';
  readonly reason: string;
  readonly state: ConversionJob['state'];
  readonly rule: string;
  readonly tries: number;
  readonly target?: string;
  readonly digest?: string;
  readonly progress?: ConversionJob['progress'];
  readonly lost?: readonly string[];
}

/** Images that a webhook names for conversion; undefined for kinds that mean nothing here. */
export type AcceldRequest = readonly string[] | undefined;

const MAX_RESOURCES = 100;

/**
 * Reads the body of `POST /api/v1/conversions`: Harbor's webhook, of which only `type` and each `resource_url` count, as in
 * Harbor's acceleration-service; CloudEvents too. @returns the field that is wrong, and what it should be
 */
export function parseAcceldRequest(value: unknown): AcceldRequest | { readonly wrong: string } {
  const body = isObject(value) ? value : {};
  const type = body['type'];
  if (typeof type !== 'string') return { wrong: 'type is missing or no text' };
  if (type !== 'PUSH_ARTIFACT' && type !== 'harbor.artifact.pushed') return undefined;
  const where = body['specversion'] === undefined ? 'event_data' : 'data';
  const data = body[where];
  const resources = isObject(data) ? data['resources'] : undefined;
  if (!Array.isArray(resources) || resources.length === 0 || resources.length > MAX_RESOURCES)
    return { wrong: `${where}.resources is not a list of 1 to ${MAX_RESOURCES}` };
  const urls: string[] = [];
  for (const [index, resource] of resources.entries()) {
    const url = isObject(resource) ? resource['resource_url'] : undefined;
    if (typeof url !== 'string' || url === '' || url.length > 2_000)
      return { wrong: `${where}.resources[${index}].resource_url is not HOST/REPOSITORY:TAG` };
    urls.push(url);
  }
  return urls;
}

/** A job in the words of Harbor's acceleration-service. Jobs that wait or run are PROCESSING, those without a source FAILED, as there. */
export function acceldTask(job: ConversionJob, hostOf: (upstream: string) => string): AcceldTask {
  const { payload, result, state } = job;
  const failed = state === 'dead' || state === 'cancelled' || result?.isSourceGone === true;
  const isOver = failed || state === 'done';
  return {
    id: job.id,
    created: timeText(job.addedAtMs),
    finished: job.endedAtMs === undefined ? null : timeText(job.endedAtMs),
    source: `${hostOf(payload.upstream)}/${payload.repository}:${payload.tag}`,
    source_size: result?.sourceBytes ?? 0,
    target_size: result?.targetBytes ?? 0,
    status: !isOver ? 'PROCESSING' : failed ? 'FAILED' : 'COMPLETED',
    reason: job.error ?? result?.reason ?? (state === 'cancelled' ? 'cancelled' : ''),
    state,
    rule: payload.rule,
    tries: job.tries,
    ...(result?.target === undefined ? {} : { target: result.target }),
    ...(result?.digest === undefined ? {} : { digest: result.digest }),
    ...(job.progress === undefined ? {} : { progress: job.progress }),
    ...(result?.lost === undefined ? {} : { lost: result.lost }),
  };
}

function timeText(atMs: number): string {
  return new Date(atMs).toISOString();
}
