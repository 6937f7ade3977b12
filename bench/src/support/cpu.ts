import { execFile } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { GIB, round } from './figures.ts';
import { peakRssMiB } from './machine.ts';

/** Clock ticks per second of `/proc/PID/stat`; the kernel's ABI fixes it. */
const TICKS = 100;
/** How long a profile takes. */
export const PROFILE_SECONDS = 4;
/** Samples a second. */
const RATE = 997;
const SHOWN_SYMBOLS = 14;

/** CPU seconds of a process: user, system, and what its main thread used of both. */
interface CpuTimes {
  readonly user: number;
  readonly system: number;
  readonly main: number;
}

/** CPU seconds per GiB: user, system, both, and of both the main thread's. */
export interface CpuPerGib {
  readonly user: number;
  readonly system: number;
  readonly all: number;
  readonly main: number;
}

/** What processes use from the moment it is made. */
export class CpuMeter {
  readonly #pids: Readonly<Record<string, number>>;
  readonly #from: Readonly<Record<string, CpuTimes>>;

  constructor(pids: Readonly<Record<string, number>>) {
    this.#pids = pids;
    this.#from = timesOf(pids);
  }

  /** Used so far, per GiB of `bytes`. */
  perGib(bytes: number): Record<string, CpuPerGib> {
    const now = timesOf(this.#pids);
    const share = (name: string, part: keyof CpuTimes): number =>
      ((now[name]![part] - this.#from[name]![part]) * GIB) / bytes;
    return Object.fromEntries(
      Object.keys(this.#pids).map((name) => {
        const [user, system, main] = [share(name, 'user'), share(name, 'system'), share(name, 'main')];
        return [
          name,
          {
            user: round(user, 2),
            system: round(system, 2),
            all: round(user + system, 2),
            main: round(main, 2),
          },
        ];
      }),
    );
  }
}

/** What all members of a role used. */
export interface RoleUse {
  readonly members: number;
  readonly cpuSec: number;
  readonly user: number;
  readonly system: number;
  /** Peak resident memory of the largest of them, MiB. */
  readonly peakMiB: number;
}

/** CPU and memory of a cluster's members by role, from the moment it is made. */
export class RoleMeter {
  readonly #members: readonly { readonly role: string; readonly pid: number }[];
  readonly #from: Readonly<Record<string, CpuTimes>>;

  constructor(members: readonly { readonly role: string; readonly pid: number }[]) {
    this.#members = members;
    this.#from = timesOf(this.#pids());
  }

  /** Every member must live. */
  byRole(): Record<string, RoleUse> {
    const now = timesOf(this.#pids());
    const roles = [...new Set(this.#members.map(({ role }) => role))];
    return Object.fromEntries(
      roles.map((role) => {
        const pids = this.#members.filter((one) => one.role === role).map(({ pid }) => pid);
        const used = (part: 'user' | 'system'): number =>
          pids.reduce((sum, pid) => sum + now[pid]![part] - this.#from[pid]![part], 0);
        const [user, system] = [used('user'), used('system')];
        const peakMiB = Math.max(...pids.map(peakRssMiB));
        const cpuSec = round(user + system, 2);
        return [
          role,
          { members: pids.length, cpuSec, user: round(user, 2), system: round(system, 2), peakMiB },
        ];
      }),
    );
  }

  #pids(): Record<string, number> {
    return Object.fromEntries(this.#members.map(({ pid }) => [String(pid), pid]));
  }
}

/** The symbols on which processes spend most, by `perf` (root): percent of the samples of all of them. */
export async function profile(
  pids: Readonly<Record<string, number>>,
  seconds: number,
): Promise<Record<string, string[]>> {
  const found = await Promise.all(
    Object.entries(pids).map(async ([name, pid]) => {
      const script = `perf record -q -F ${RATE} -o - -p ${pid} -- sleep ${seconds} 2>/dev/null | perf report -q -i - --sort comm,dso,symbol --stdio 2>/dev/null | grep -v '^$' | head -${SHOWN_SYMBOLS}`;
      return [name, (await shell(script)).split('\n').filter((line) => line.trim() !== '')] as const;
    }),
  );
  return Object.fromEntries(found);
}

async function shell(script: string): Promise<string> {
  return await new Promise((resolve, reject) => {
    execFile('bash', ['-c', script], { maxBuffer: 1 << 24 }, (error, stdout) => {
      if (error === null) resolve(stdout);
      else reject(error);
    });
  });
}

function timesOf(pids: Readonly<Record<string, number>>): Record<string, CpuTimes> {
  return Object.fromEntries(
    Object.entries(pids).map(([name, pid]) => {
      const all = fieldsOf(`/proc/${pid}/stat`);
      const main = readdirSync(`/proc/${pid}/task`).includes(String(pid))
        ? fieldsOf(`/proc/${pid}/task/${pid}/stat`)
        : all;
      return [name, { ...all, main: main.user + main.system }];
    }),
  );
}

function fieldsOf(file: string): { user: number; system: number } {
  const stat = readFileSync(file, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return { user: Number(fields[11]) / TICKS, system: Number(fields[12]) / TICKS };
}
