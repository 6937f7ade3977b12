import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { pause } from '@sepia/base/lifecycle';
import { logTail } from './files.ts';
import { memberEnv, nodeArguments } from './node-flags.ts';
import type { MemberPlan, Role } from './plan.ts';

/** How a process ended: by itself with `code`, or by `signal`. */
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
    const { role } = deps.plan;
    try {
      const args = [...nodeArguments(role, deps.mainOf(role)), '--config', deps.config, ...deps.flags];
      this.#child = spawn(process.execPath, args, {
        detached: true,
        stdio: ['ignore', log, log],
        env: memberEnv(process.env, process.pid, role),
      });
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
