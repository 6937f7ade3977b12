import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { pause } from '@sepia/base/lifecycle';
import { logTail } from './files.ts';
import type { MemberPlan, Role } from './plan.ts';

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

interface MemberProcessDeps {
  readonly plan: MemberPlan;
  readonly config: string;
  readonly log: string;
  /** File that Node runs for a role. */
  readonly mainOf: (role: Role) => string;
  /** Further arguments of this run. */
  readonly flags: readonly string[];
}

/**
 * V8 lets its young generation grow to 3 × 16 MiB under load; members make little garbage and hold big buffers, 4 do.
 * With 500 slow readers it let the old one grow from 40 to 157 MiB, of which 45 were in use: it is collected sooner.
 * `./sepia` and the image give the same to roles that run alone.
 */
const NODE_FLAGS = ['--max-semi-space-size=4', '--heap-growing-percent=30'];
/**
 * A tracker holds no buffers but much that is small and asked for all the time: with the flags above 15,000 nodes waited for
 * its garbage collector (join p99 196–754 ms, 92 with these; a third less CPU, 460 MiB instead of 257 there).
 */
const TRACKER_FLAGS = ['--max-semi-space-size=32'];

function nodeFlags(role: Role): readonly string[] {
  return role === 'tracker' ? TRACKER_FLAGS : NODE_FLAGS;
}

/**
 * Memory of a buffer goes back to the system when it is freed. Else glibc keeps it: 500 slow readers that had gone left a
 * proxy at 243 MiB, of which 40 were in use, for ever. Costs nothing that could be measured. `./sepia` and the image give the same.
 */
const MALLOC_MMAP_THRESHOLD_BYTES = 32 * 1024;

/** One run of a member, as leader of a process group of its own; its output goes to its log. */
export class MemberProcess {
  readonly pid: number;
  /** Resolves once, when the process is gone. */
  readonly exited: Promise<Exit>;
  readonly #deps: MemberProcessDeps;
  readonly #logFrom: number;
  readonly #child: ChildProcess;
  #isGone = false;

  constructor(deps: MemberProcessDeps) {
    this.#deps = deps;
    this.#logFrom = sizeOf(deps.log);
    const log = openSync(deps.log, 'a');
    try {
      this.#child = spawn(
        process.execPath,
        [...nodeFlags(deps.plan.role), deps.mainOf(deps.plan.role), '--config', deps.config, ...deps.flags],
        {
          detached: true,
          stdio: ['ignore', log, log],
          env: {
            ...process.env,
            SEPIA_SUPERVISOR: String(process.pid),
            UV_THREADPOOL_SIZE: process.env['UV_THREADPOOL_SIZE'] ?? '16',
            MALLOC_MMAP_THRESHOLD_: String(MALLOC_MMAP_THRESHOLD_BYTES),
          },
        },
      );
    } finally {
      closeSync(log);
    }
    this.pid = this.#child.pid ?? -1;
    this.exited = new Promise((resolve) => {
      const gone = (exit: Exit): void => {
        this.#isGone = true;
        resolve(exit);
      };
      this.#child.once('error', () => gone({ code: 127, signal: null }));
      this.#child.once('exit', (code, signal) => gone({ code, signal }));
    });
  }

  get isGone(): boolean {
    return this.#isGone;
  }

  /** Why it ended, in one line: what it said itself, else its exit code or signal. */
  why(exit: Exit): string {
    const lines = logTail(this.#deps.log, this.#logFrom).split('\n');
    const own = lines.findLast((line) => line.startsWith(`sepia ${this.#deps.plan.role}: `));
    if (own !== undefined)
      return own.slice(`sepia ${this.#deps.plan.role}: `.length).replace(/^[A-Z_]+: /, '');
    const how = exit.signal === null ? `ended with exit ${exit.code}` : `was ended by ${exit.signal}`;
    const last = lines.findLast((line) => /^\w*Error\b/.test(line));
    return `${how}${last === undefined ? '' : ` (${last})`}; see ${this.#deps.log}`;
  }

  /** Asks it to drain and stop, also when it is halted; after `graceMs` its whole group is killed. */
  async stop(graceMs: number): Promise<void> {
    if (this.#isGone) return;
    this.#signal('SIGTERM');
    this.#signal('SIGCONT');
    const timer = new AbortController();
    const late = pause(graceMs, timer.signal).then((isLate) => {
      if (isLate) this.#signal('SIGKILL');
    });
    await this.exited;
    timer.abort();
    await late;
  }

  #signal(signal: NodeJS.Signals): void {
    if (this.#isGone || this.pid <= 0) return;
    try {
      process.kill(-this.pid, signal);
    } catch (error) {
      if (systemCode(error) !== 'ESRCH') throw error;
    }
  }
}

/** `main.ts` of a service. */
export function mainOfRole(role: Role): string {
  return fileURLToPath(import.meta.resolve(`@sepia/${role}/main`));
}

function sizeOf(file: string): number {
  try {
    return statSync(file).size;
  } catch (error) {
    throwIfBug(error);
    return 0;
  }
}
