import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemCode } from '@sepia/base/errors';

const ROOT = '/sys/fs/cgroup';

/** Names of the files of a hierarchy. */
interface Kind {
  readonly name: 'cgroup v2' | 'cgroup v1';
  readonly folder: string;
  readonly limit: string;
  readonly peak: string;
  /** Swap must not stand in for memory. */
  readonly swap: readonly [file: string, value: (limitBytes: number) => string];
  readonly events: string;
  /** Name of memory that is no cache, in `memory.stat`. */
  readonly own: string;
}

const KINDS: readonly Kind[] = [
  {
    name: 'cgroup v2',
    folder: ROOT,
    limit: 'memory.max',
    peak: 'memory.peak',
    swap: ['memory.swap.max', () => '0'],
    events: 'memory.events',
    own: 'anon',
  },
  {
    name: 'cgroup v1',
    folder: join(ROOT, 'memory'),
    limit: 'memory.limit_in_bytes',
    peak: 'memory.max_usage_in_bytes',
    swap: ['memory.memsw.limit_in_bytes', (limitBytes) => String(limitBytes)],
    events: 'memory.oom_control',
    own: 'total_rss',
  },
];

/** What a command used in a {@link MemoryGroup}. */
export interface LimitedRun {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  /** Highest memory of the group that is no page cache, bytes, as sampled: what cannot be taken back. */
  readonly ownBytes: number;
  /** Highest charge of the group, bytes: page cache included, which the kernel takes back at the limit. */
  readonly chargedBytes: number;
  /** Processes that the kernel killed for want of memory. */
  readonly killed: number;
  readonly cpuSeconds: number;
  readonly seconds: number;
}

const SAMPLE_MS = 200;
const TICKS = 100;

/** A cgroup in which commands have so much memory and no more; no swap. */
export class MemoryGroup {
  readonly kind: Kind['name'];
  readonly #kind: Kind;
  readonly #folder: string;

  private constructor(kind: Kind, folder: string) {
    this.kind = kind.name;
    this.#kind = kind;
    this.#folder = folder;
  }

  /** @returns why there can be none here */
  static create(name: string, limitBytes: number): MemoryGroup | string {
    const kind = KINDS.find((one) => existsSync(join(one.folder, 'cgroup.procs')) && hasMemory(one));
    if (kind === undefined) return `no memory controller at ${ROOT}`;
    const folder = join(kind.folder, `${name}-${process.pid}`);
    try {
      mkdirSync(folder);
      writeFileSync(join(folder, kind.limit), String(limitBytes));
      const [file, value] = kind.swap;
      if (existsSync(join(folder, file))) writeFileSync(join(folder, file), value(limitBytes));
    } catch (error) {
      if (systemCode(error) === undefined) throw error;
      return `no cgroup can be made at ${kind.folder}: ${(error as Error).message}`;
    }
    return new MemoryGroup(kind, folder);
  }

  /** Runs a command with all that it starts in the group. `limitMs`: it is ended then. */
  async run(
    command: readonly string[],
    env: Readonly<Record<string, string | undefined>>,
    limitMs: number,
  ): Promise<LimitedRun> {
    const startedMs = performance.now();
    const killedBefore = this.#killed();
    const child = spawn('sh', ['-c', 'echo $$ > "$0" && exec "$@"', this.#file('cgroup.procs'), ...command], {
      env: { ...process.env, ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: limitMs,
      killSignal: 'SIGKILL',
    });
    let ownBytes = 0;
    const cpu = new Map<number, number>();
    const sample = (): void => {
      ownBytes = Math.max(ownBytes, this.#own());
      for (const pid of this.#pids()) {
        const seen = cpuSecondsOf(pid);
        if (seen !== undefined) cpu.set(pid, seen);
      }
    };
    const timer = setInterval(sample, SAMPLE_MS);
    try {
      const { code, stdout, stderr } = await ended(child);
      return {
        ...{ code, stdout, stderr, ownBytes, killed: this.#killed() - killedBefore },
        chargedBytes: Number(readFileSync(this.#file(this.#kind.peak), 'utf8')),
        cpuSeconds: [...cpu.values()].reduce((sum, one) => sum + one, 0),
        seconds: (performance.now() - startedMs) / 1000,
      };
    } finally {
      clearInterval(timer);
    }
  }

  /** Takes the group away; nothing may run in it any more. */
  remove(): void {
    rmdirSync(this.#folder);
  }

  #file(name: string): string {
    return join(this.#folder, name);
  }

  #pids(): number[] {
    return readFileSync(this.#file('cgroup.procs'), 'utf8').trim().split('\n').filter(Boolean).map(Number);
  }

  #own(): number {
    const stat = readFileSync(this.#file('memory.stat'), 'utf8');
    return Number(new RegExp(`^${this.#kind.own} (\\d+)$`, 'm').exec(stat)?.[1] ?? 0);
  }

  #killed(): number {
    return Number(/^oom_kill (\d+)$/m.exec(readFileSync(this.#file(this.#kind.events), 'utf8'))?.[1] ?? 0);
  }
}

function hasMemory({ name, folder }: Kind): boolean {
  return (
    name === 'cgroup v1' ||
    readFileSync(join(folder, 'cgroup.subtree_control'), 'utf8').split(/\s+/).includes('memory')
  );
}

async function ended(child: ChildProcess): Promise<{ code: number; stdout: string; stderr: string }> {
  const texts = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const)
    child[name]!.setEncoding('utf8').on('data', (text: string) => {
      texts[name] += text;
    });
  const code = await new Promise<number>((resolve, reject) => {
    child.once('error', reject).once('close', (status) => resolve(status ?? 137));
  });
  return { code, ...texts };
}

/** User and system, all threads; undefined for a process that has ended meanwhile. */
function cpuSecondsOf(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / TICKS;
  } catch (error) {
    if (!['ENOENT', 'ESRCH'].includes(systemCode(error) ?? '')) throw error;
    return undefined;
  }
}
