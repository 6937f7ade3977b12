import { CodedError, isCoded } from '@sepia/base/errors';
import { logFailure } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { CommandReport, NodeCommand, PrefetchDetail, PurgeDetail } from '@sepia/cluster/api/commands';
import type { CommandLog } from './core/command-log.ts';

/** Commands carried out at once; purges never wait for prefetches. */
const PARALLEL = 2;
const MAX_ERROR_CHARS = 500;

/** How far a command is, in bytes. */
export interface CommandProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
}

interface RunnerDeps {
  readonly commandLog: CommandLog;
  readonly log: Logger;
  readonly prefetch: (
    detail: PrefetchDetail,
    onProgress: (progress: CommandProgress) => void,
    signal: AbortSignal,
  ) => Promise<CommandProgress>;
  readonly purge: (detail: PurgeDetail) => Promise<void>;
}

/** Carries out the commands that trackers hand to this node, each id once. */
export class CommandRunner {
  /** Called whenever a command ended: the trackers should hear of it soon. */
  onEnd: () => void = () => undefined;
  readonly #deps: RunnerDeps;
  readonly #waiting: { readonly command: NodeCommand; readonly untilMs: number }[] = [];
  readonly #stopped = new AbortController();
  readonly #running = new Set<Promise<void>>();
  #prefetches = 0;

  constructor(deps: RunnerDeps) {
    this.#deps = deps;
  }

  /** Takes the commands of one tracker's answer. */
  receive(trackerId: string, commands: readonly NodeCommand[]): void {
    for (const command of this.#deps.commandLog.take(trackerId, commands)) {
      this.#deps.log.info({ id: command.id, type: command.type }, 'command taken');
      if (command.type === 'prefetch')
        this.#waiting.push({ command, untilMs: performance.now() + command.expiresInMs });
      else this.#start(command, command.expiresInMs);
    }
    this.#pump();
  }

  /** Ends what runs; it is handed out again after the next start. */
  async stop(): Promise<void> {
    this.#waiting.length = 0;
    this.#stopped.abort(new CodedError('DRAINING'));
    await Promise.allSettled(this.#running);
  }

  #pump(): void {
    while (this.#prefetches < PARALLEL) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      this.#prefetches += 1;
      this.#start(next.command, next.untilMs - performance.now(), () => {
        this.#prefetches -= 1;
        this.#pump();
      });
    }
  }

  #start(command: NodeCommand, lifeMs: number, onEnd: () => void = () => undefined): void {
    const run = this.#run(command, lifeMs).finally(() => {
      this.#running.delete(run);
      onEnd();
    });
    this.#running.add(run);
  }

  async #run(command: NodeCommand, lifeMs: number): Promise<void> {
    const { commandLog, log } = this.#deps;
    const { id, type } = command;
    const late = new AbortController();
    const timer = setTimeout(
      () => late.abort(new CodedError('TIMEOUT', { message: 'the command ran out before it was done' })),
      Math.max(0, lifeMs),
    );
    let report: CommandReport;
    try {
      const progress = await this.#carryOut(command, AbortSignal.any([late.signal, this.#stopped.signal]));
      report = { id, state: 'done', ...progress };
      log.info({ id, type, ...progress }, 'command done');
    } catch (error) {
      if (this.#stopped.signal.aborted) return;
      const reason = isCoded(error) ? `${error.code}: ${error.message}` : String(error);
      report = { id, state: 'failed', error: reason.slice(0, MAX_ERROR_CHARS) };
      logFailure(log, error, 'command failed', { id, type });
    } finally {
      clearTimeout(timer);
    }
    commandLog.note(report);
    this.onEnd();
  }

  async #carryOut(command: NodeCommand, signal: AbortSignal): Promise<CommandProgress | undefined> {
    const { commandLog, prefetch, purge } = this.#deps;
    const { id } = command;
    switch (command.type) {
      case 'prefetch': {
        const onProgress = (progress: CommandProgress): void =>
          commandLog.note({ id, state: 'running', ...progress });
        return await prefetch(command.detail, onProgress, signal);
      }
      case 'purge':
        await purge(command.detail);
        return undefined;
      default:
        throw new CodedError('METHOD_UNSUPPORTED', {
          message: `this version does not carry out "${command.type}"`,
        });
    }
  }
}
