import {
  type ConversionJob,
  type ConversionOutcome,
  type ConversionProgress,
  type ConversionTask,
  TASK_KINDS,
} from '@sepia/cluster/api/conversions';
import { PROXY } from '@sepia/cluster/api/proxy';
import { type RouteCall, to } from '@sepia/cluster/api/route';
import { QUEUE_MS } from '../deadlines.ts';
import type { Proxies } from './proxies.ts';

const MAX_LINE = 300;

/** The cluster's queue of conversions, through its proxies. Every call @throws what a proxy named, `NO_PEERS` */
export class QueueClient {
  readonly #proxies: Proxies;

  constructor(proxies: Proxies) {
    this.#proxies = proxies;
  }

  async list(): Promise<readonly ConversionJob[]> {
    const { jobs } = await this.#proxies.json<{ jobs: ConversionJob[] }>({
      ...to(PROXY.conversions),
      headersTimeoutMs: QUEUE_MS,
    });
    return jobs;
  }

  async add(task: ConversionTask): Promise<{ readonly id: string; readonly isNew: boolean }> {
    return await this.#post(to(PROXY.conversionAdd), { task });
  }

  /** Puts in what a scan found, unless it is settled: another scan may have found it at the same time. */
  async addFound(task: ConversionTask): Promise<{ readonly id: string; readonly isNew: boolean }> {
    return await this.#post(to(PROXY.conversionAdd), { task, isFound: true });
  }

  /** Jobs of the kinds that this version knows. */
  async take(holder: string, limit: number): Promise<readonly ConversionJob[]> {
    const asked = { holder, limit, kinds: TASK_KINDS };
    return (await this.#post<{ jobs: ConversionJob[] }>(to(PROXY.conversionTake), asked)).jobs;
  }

  /** @returns false if the holder must stop */
  async renew(id: string, holder: string, progress: ConversionProgress): Promise<boolean> {
    return (await this.#change<{ isHeld: boolean }>(id, 'renew', { holder, progress })).isHeld;
  }

  async finish(id: string, holder: string, result: ConversionOutcome): Promise<void> {
    await this.#change(id, 'finish', { holder, result: shortened(result) });
  }

  async fail(id: string, holder: string, error: string, isFinal: boolean): Promise<void> {
    await this.#change(id, 'fail', { holder, error: error.slice(0, 4_000), isFinal });
  }

  async release(id: string, holder: string): Promise<void> {
    await this.#change(id, 'release', { holder });
  }

  async cancel(id: string): Promise<void> {
    await this.#change(id, 'cancel', {});
  }

  async retry(id: string): Promise<void> {
    await this.#change(id, 'retry', {});
  }

  async #change<T>(id: string, verb: string, json: unknown): Promise<T> {
    return await this.#post<T>(to(PROXY.conversionChange, { id, verb }), json);
  }

  async #post<T>(call: RouteCall, json: unknown): Promise<T> {
    return await this.#proxies.json<T>({ ...call, json, headersTimeoutMs: QUEUE_MS });
  }
}

/** What an image says of itself, as the types of what is attached to it, may be of any length: a job keeps the begin of each line. */
function shortened(result: ConversionOutcome): ConversionOutcome {
  const { reason, lost, notLazy, ...rest } = result;
  const lines = (list: readonly string[]): string[] => list.map(line);
  return {
    ...rest,
    ...(reason === undefined ? {} : { reason: line(reason) }),
    ...(lost === undefined ? {} : { lost: lines(lost) }),
    ...(notLazy === undefined ? {} : { notLazy: lines(notLazy) }),
  };
}

function line(text: string): string {
  return text.length <= MAX_LINE ? text : `${text.slice(0, MAX_LINE)}…`;
}
