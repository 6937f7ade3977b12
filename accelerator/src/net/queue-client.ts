import type {
  ConversionJob,
  ConversionOutcome,
  ConversionProgress,
  ConversionTask,
} from '@sepia/cluster/api/conversions';
import type { Proxies } from './proxies.ts';

const CALL_MS = 20_000;

/** The cluster's queue of conversions, through its proxies. Every call @throws what a proxy named, `NO_PEERS` */
export class QueueClient {
  readonly #proxies: Proxies;

  constructor(proxies: Proxies) {
    this.#proxies = proxies;
  }

  async list(): Promise<readonly ConversionJob[]> {
    const { jobs } = await this.#proxies.json<{ jobs: ConversionJob[] }>({
      method: 'GET',
      path: '/v1/conversions',
      headersTimeoutMs: CALL_MS,
    });
    return jobs;
  }

  async add(task: ConversionTask): Promise<{ readonly id: string; readonly isNew: boolean }> {
    return await this.#post('', { task });
  }

  async take(holder: string, limit: number): Promise<readonly ConversionJob[]> {
    return (await this.#post<{ jobs: ConversionJob[] }>('/take', { holder, limit })).jobs;
  }

  /** @returns false if the holder must stop */
  async renew(id: string, holder: string, progress: ConversionProgress): Promise<boolean> {
    return (await this.#post<{ isHeld: boolean }>(`/${id}/renew`, { holder, progress })).isHeld;
  }

  async finish(id: string, holder: string, result: ConversionOutcome): Promise<void> {
    await this.#post(`/${id}/finish`, { holder, result });
  }

  async fail(id: string, holder: string, error: string, isFinal: boolean): Promise<void> {
    await this.#post(`/${id}/fail`, { holder, error: error.slice(0, 4_000), isFinal });
  }

  async release(id: string, holder: string): Promise<void> {
    await this.#post(`/${id}/release`, { holder });
  }

  async cancel(id: string): Promise<void> {
    await this.#post(`/${encodeURIComponent(id)}/cancel`, {});
  }

  async retry(id: string): Promise<void> {
    await this.#post(`/${encodeURIComponent(id)}/retry`, {});
  }

  async #post<T>(path: string, json: unknown): Promise<T> {
    return await this.#proxies.json<T>({
      method: 'POST',
      path: `/v1/conversions${path}`,
      json,
      headersTimeoutMs: CALL_MS,
    });
  }
}
