import { stat } from 'node:fs/promises';
import { systemCode } from '@sepia/base/errors';
import { ignoreFailure, logFailure, throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { Reach } from '@sepia/base/reach';
import type { Dispatcher } from '@sepia/http/sockets';
import type { SnapshotterConfig } from './config.ts';
import { PATIENCE_MS, READY_ANSWER_MS, READY_LOOK_MS, READY_SLACK_MS } from './deadlines.ts';
import type { FuseServer } from './fuse/fuse-server.ts';
import { hasHolder, pidFileOf } from './launch.ts';

/** What is looked at; mount and holder say why they do not hold. */
export interface Looks {
  readonly mount: () => Promise<string | undefined>;
  readonly holder: () => Promise<string | undefined>;
  /** Rejects where the agent gives no answer. */
  readonly agent: (signal: AbortSignal) => Promise<void>;
}

interface ReadinessDeps {
  readonly looks: Looks;
  readonly log: Logger;
  /** Steady. */
  readonly nowMs: () => number;
  /** Why the agent will have nothing to do with this node's secret, if it said so. */
  readonly refused: () => string | undefined;
}

/** Whether the daemon can do its job: its mount answers, somebody holds it, and the agent is there. Begun by {@link look}. */
export class Readiness {
  readonly #deps: ReadinessDeps;
  readonly #stopped = new AbortController();
  readonly #reach: Reach;
  /** What does not hold, and since when. */
  readonly #lacks = new Map<string, { readonly why: string; readonly sinceMs: number }>();
  readonly #looking = new Set<string>();
  #loop: Promise<void> = Promise.resolve();

  constructor(deps: ReadinessDeps) {
    this.#deps = deps;
    this.#reach = new Reach({ whom: 'agents of this node', patienceMs: PATIENCE_MS });
  }

  /** Why this daemon is of no use now; undefined: it is. */
  get notReady(): string | undefined {
    const nowMs = this.#deps.nowMs();
    const [lasting] = [...this.#lacks.values()].filter(({ sinceMs }) => nowMs - sinceMs >= PATIENCE_MS);
    return lasting?.why ?? this.#reach.lack(nowMs)?.why ?? this.#deps.refused();
  }

  /** Looks now, and every few seconds until {@link stop}. */
  start(): void {
    this.#loop = this.#run();
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#loop;
  }

  /** One look at everything, within some seconds. */
  async look(): Promise<void> {
    await Promise.all([this.#lookAt('mount'), this.#lookAt('holder'), this.#lookAtAgent()]);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopped;
    while (!signal.aborted) {
      await this.look();
      await delay(READY_LOOK_MS, signal).catch(ignoreFailure);
    }
  }

  /** A look that hangs is not begun again: it holds a thread. */
  async #lookAt(what: 'mount' | 'holder'): Promise<void> {
    if (this.#looking.has(what)) return;
    this.#looking.add(what);
    const late = setTimeout(() => this.#lacking(what, `the ${what} does not answer`), READY_ANSWER_MS);
    const look = async (): Promise<void> => {
      try {
        const why = await this.#deps.looks[what]();
        if (why === undefined) this.#lacks.delete(what);
        else this.#lacking(what, why);
      } catch (error) {
        logFailure(this.#deps.log, error, `the ${what} could not be looked at`);
        this.#lacking(what, `the ${what} cannot be looked at: ${(error as Error).message}`);
      } finally {
        clearTimeout(late);
        this.#looking.delete(what);
      }
    };
    const { signal } = this.#stopped;
    await Promise.race([look(), delay(READY_ANSWER_MS + READY_SLACK_MS, signal).catch(ignoreFailure)]);
  }

  #lacking(what: string, why: string): void {
    const sinceMs = this.#lacks.get(what)?.sinceMs ?? this.#deps.nowMs();
    this.#lacks.set(what, { why, sinceMs });
  }

  async #lookAtAgent(): Promise<void> {
    const { looks, nowMs } = this.#deps;
    try {
      await looks.agent(AbortSignal.any([AbortSignal.timeout(READY_ANSWER_MS), this.#stopped.signal]));
      this.#reach.answered();
    } catch (error) {
      throwIfBug(error);
      if (this.#stopped.signal.aborted) return;
      const why = systemCode(error) ?? (error as Error).message;
      this.#reach.failed('agent', 'silent', why, nowMs());
    }
  }
}

/** What is looked at in the process that serves `/dev/fuse`. */
export async function looksOf(daemon: {
  readonly config: Pick<SnapshotterConfig, 'data' | 'mount' | 'agent'>;
  readonly dispatcher: Dispatcher;
  readonly fuse: Pick<FuseServer, 'answers'>;
}): Promise<Looks> {
  const { config, dispatcher, fuse } = daemon;
  const device = (await stat(config.mount)).dev;
  const pidFile = pidFileOf(config);
  const isHeld = await hasHolder(pidFile);
  return {
    mount: async () => {
      if ((await stat(config.mount)).dev !== device)
        return `${config.mount} shows nothing of this process any more: start the snapshotter again`;
      await fuse.answers();
      return undefined;
    },
    holder: async () =>
      !isHeld || (await hasHolder(pidFile))
        ? undefined
        : `nobody holds ${config.mount}: with this process (${process.pid}) all that is mounted from it would end`,
    agent: async (signal) => {
      const { body } = await dispatcher.request({
        origin: config.agent,
        path: '/v2/',
        method: 'GET',
        headersTimeout: READY_ANSWER_MS,
        signal,
      });
      await body.dump({ limit: 64 * 1024 });
    },
  };
}
