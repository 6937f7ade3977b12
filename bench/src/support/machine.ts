import { execFileSync } from 'node:child_process';
import { closeSync, ftruncateSync, openSync, readFileSync, readSync, unlinkSync } from 'node:fs';
import { cpus, loadavg } from 'node:os';
import { join } from 'node:path';
import { delay } from '@sepia/base/lifecycle';

/** Clock ticks per second of `/proc/PID/stat`; the kernel's ABI fixes it. */
const TICKS = 100;

interface CpuTimes {
  readonly idle: number;
  readonly total: number;
}

/** CPU seconds (user and system) that a process and its threads used so far. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

/** Peak resident memory of a process, in MiB. */
export function peakRssMiB(pid: number): number {
  return statusMiB(pid, 'VmHWM');
}

/** Resident memory of a process now, in MiB. */
export function rssMiB(pid: number): number {
  return statusMiB(pid, 'VmRSS');
}

/** 0 for a process that has just ended. */
function statusMiB(pid: number, field: 'VmHWM' | 'VmRSS'): number {
  const found = new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'));
  return Math.round(Number(found?.[1] ?? 0) / 1024);
}

/** Measures the share of CPU time of the whole machine that nobody used. */
export class IdleMeter {
  readonly #from = machineTimes();

  /** Percent since the meter was made. */
  percent(): number {
    const now = machineTimes();
    return Math.round((100 * (now.idle - this.#from.idle)) / Math.max(1, now.total - this.#from.total));
  }
}

/** Idle share below which the CPU limits what a link should limit, in percent. */
const LINK_IDLE = 25;
/** Idle share of a machine that does nothing else, in percent. */
const QUIET = 85;

/** What a run says of the machine. */
export interface MachineVerdict {
  readonly idleBeforePercent: number;
  readonly idlePercent: number;
  /** Nothing else ran before and, where a link should be the limit, the CPU was not. */
  readonly valid: boolean;
}

/** One measured stretch of time on a machine that was waited for. */
export class QuietRun {
  readonly #before: number;
  readonly #meter = new IdleMeter();

  private constructor(before: number) {
    this.#before = before;
  }

  /** Waits for a quiet machine as {@link quietMachine} does; measures from then on. */
  static async begin(): Promise<QuietRun> {
    return new QuietRun(await quietMachine(QUIET));
  }

  /** `limit`: what should limit the run. */
  verdict(limit: 'link' | 'cpu'): MachineVerdict {
    const idlePercent = this.#meter.percent();
    const valid = this.#before >= QUIET && (limit === 'cpu' || idlePercent >= LINK_IDLE);
    return { idleBeforePercent: this.#before, idlePercent, valid };
  }
}

/** Waits until the machine was `percent` idle for 2 s in a row, at most `limitMs`; returns the last figure. */
export async function quietMachine(
  percent = QUIET,
  limitMs = Number(process.env['SEPIA_BENCH_QUIET_MS'] ?? 120_000),
): Promise<number> {
  const deadline = Date.now() + limitMs;
  for (;;) {
    const meter = new IdleMeter();
    await delay(2_000);
    const idle = meter.percent();
    if (idle >= percent || Date.now() > deadline) return idle;
  }
}

/**
 * Fills and frees `bytes` of the page cache, by a sparse file in `dir`: on a virtual machine the first touch of a page is a
 * fault of the host, and would be counted as work of whoever comes first.
 */
export function touchMemory(dir: string, bytes: number): void {
  const file = join(dir, 'touched');
  const fd = openSync(file, 'w+');
  try {
    ftruncateSync(fd, bytes);
    const buffer = Buffer.allocUnsafeSlow(2 ** 20);
    for (let at = 0; at < bytes; at += buffer.length) readSync(fd, buffer, 0, buffer.length, at);
  } finally {
    closeSync(fd);
    unlinkSync(file);
  }
}

/** What a figure depends on besides the code. */
export function machineFacts(): Record<string, unknown> {
  const git = (...args: string[]): string =>
    execFileSync('git', args, { cwd: import.meta.dirname, encoding: 'utf8' }).trim();
  return {
    date: new Date().toISOString(),
    node: process.version,
    cpu: cpus()[0]?.model,
    cores: cpus().length,
    commit: git('rev-parse', '--short', 'HEAD'),
    changed: git('status', '--porcelain', '--', '../../..')
      .split('\n')
      .some((line) => /\.ts$/.test(line)),
    load: loadavg().map((one) => Math.round(one * 100) / 100),
  };
}

function machineTimes(): CpuTimes {
  const [line = ''] = readFileSync('/proc/stat', 'utf8').split('\n');
  const times = line.trim().split(/\s+/).slice(1, 9).map(Number);
  return { idle: times[3]! + times[4]!, total: times.reduce((sum, one) => sum + one, 0) };
}
