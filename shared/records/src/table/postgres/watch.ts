import { backoffMs } from '@sepia/base/async/backoff';
import { CodedError } from '@sepia/base/errors';
import { ended, ignoreFailure, logFailure, throwIfBug } from '@sepia/base/failure';
import { delay, pause } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { MAX_WATCH_RETRY_MS, WATCH_END_MS, WATCH_POLL_MS, WATCH_RETRY_MS } from '../../deadlines.ts';
import type { OnForeign } from '../record-table.ts';
import type { PostgresDatabase } from './database.ts';
import { CHANNEL } from './schema.ts';

interface WatchDeps {
  readonly database: Pick<PostgresDatabase, 'newClient'>;
  readonly log: Logger;
  /** True if what the note with this id says is known here. */
  readonly isHeard: (id: string) => boolean;
}

/**
 * Hears what other origins write, by LISTEN on a connection of its own. Each time it begins to listen something may have
 * been missed, and listeners are told so. Begins with the first listener.
 */
export class Watch {
  readonly #deps: WatchDeps;
  readonly #listeners = new Set<OnForeign>();
  readonly #stopped = new AbortController();
  #running: Promise<void> | undefined;

  constructor(deps: WatchDeps) {
    this.#deps = deps;
  }

  onForeign(listener: OnForeign): void {
    this.#listeners.add(listener);
    this.#running ??= this.#run();
  }

  /** Tells listeners of a key that may have changed; undefined: of any. */
  tell(key: string | undefined): void {
    for (const listener of this.#listeners) listener(key);
  }

  async stop(): Promise<void> {
    this.#stopped.abort(new CodedError('DRAINING'));
    await ended(this.#running);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopped;
    for (let failures = 0; !signal.aborted; ) {
      try {
        await this.#listen(signal, () => {
          failures = 0;
        });
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        logFailure(this.#deps.log, error, 'changes of other origins are not heard', { failures }, 'debug');
        await delay(backoffMs(failures, WATCH_RETRY_MS, MAX_WATCH_RETRY_MS), signal).catch(ignoreFailure);
      }
    }
  }

  /** Until the connection breaks or `signal` ends it. */
  async #listen(signal: AbortSignal, onBegun: () => void): Promise<void> {
    const client = this.#deps.database.newClient();
    const broken = new AbortController();
    client.on('error', (error) => broken.abort(error));
    client.on('end', () => broken.abort(new CodedError('PEER_HTTP', { message: 'the connection ended' })));
    client.on('notification', ({ payload = '' }) => this.#hear(payload));
    try {
      await client.connect();
      await client.query(`LISTEN ${CHANNEL}`);
      onBegun();
      this.tell(undefined);
      for (;;) {
        await delay(WATCH_POLL_MS, AbortSignal.any([signal, broken.signal]));
        await client.query('SELECT 1');
      }
    } finally {
      // A server that is silent never ends it: then the socket goes.
      await Promise.race([client.end().catch(ignoreFailure), pause(WATCH_END_MS, signal)]);
      client.connection.stream.destroy();
    }
  }

  #hear(payload: string): void {
    const at = payload.indexOf('\n');
    if (at < 0 || this.#deps.isHeard(payload.slice(0, at))) return;
    for (const key of keysIn(payload.slice(at + 1)) ?? [undefined]) this.tell(key);
  }
}

/** Undefined where they were too many to name, or it is no list of ours. */
function keysIn(text: string): string[] | undefined {
  try {
    const keys: unknown = JSON.parse(text === '' ? 'null' : text);
    return Array.isArray(keys) && keys.every((key) => typeof key === 'string') ? keys : undefined;
  } catch (error) {
    throwIfBug(error);
    return undefined;
  }
}
