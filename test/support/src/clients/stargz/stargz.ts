import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { builtProgram } from '../../built-program.ts';
import { run } from '../../testbed.ts';
import { until } from '../../until.ts';

const SCRIPT = join(import.meta.dirname, 'stargz.sh');
const STOP_MS = 30_000;

/** The program of a stargz-snapshotter, or undefined where it was not built. */
export function stargzProgram(): string | undefined {
  return builtProgram(SCRIPT);
}

/** A real stargz-snapshotter: verifies what it mounts, fetches nothing on its own but what a landmark asks for. */
export class Stargz {
  readonly #dir: string;
  readonly #process: ChildProcess;

  private constructor(dir: string, child: ChildProcess) {
    this.#dir = dir;
    this.#process = child;
  }

  /** `dir`: short, a socket lies there. `mirrors`: registry host to host and port of this machine, asked without TLS. */
  static async start(dir: string, mirrors: Readonly<Record<string, string>>): Promise<Stargz> {
    mkdirSync(dir, { recursive: true });
    const host = Object.fromEntries(
      Object.entries(mirrors).map(([name, mirror]) => [
        name,
        { mirrors: [{ host: mirror, insecure: true }] },
      ]),
    );
    const config = {
      ...{ disable_verification: false, allow_no_verification: false, no_background_fetch: true },
      resolver: { host },
    };
    writeFileSync(join(dir, 'config.json'), JSON.stringify(config));
    const log = openSync(join(dir, 'log'), 'a');
    const socket = join(dir, 's.sock');
    const args = ['-root', join(dir, 'root'), '-address', socket, '-config', join(dir, 'config.json')];
    const child = spawn(stargzProgram()!, args, { stdio: ['ignore', log, log], detached: true });
    await until(() => existsSync(socket), 'stargz-snapshotter serves', 60_000);
    return new Stargz(dir, child);
  }

  get socket(): string {
    return join(this.#dir, 's.sock');
  }

  /** What it said of each snapshot that could be remote: true where it serves it itself. */
  prepared(): boolean[] {
    return readFileSync(join(this.#dir, 'log'), 'utf8')
      .split('\n')
      .flatMap((line) => /"remote-snapshot-prepared":"(true|false)"/.exec(line)?.[1] ?? [])
      .map((text) => text === 'true');
  }

  log(): string {
    return readFileSync(join(this.#dir, 'log'), 'utf8');
  }

  /** Layers that it has mounted. */
  mounts(): string[] {
    return readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .filter((line) => line.includes(' - fuse') && line.includes(`${this.#dir}/`))
      .map((line) => line.split(' ')[4]!);
  }

  async stop(): Promise<void> {
    const gone = new Promise((settle) => this.#process.once('exit', settle));
    this.#process.kill('SIGTERM');
    const late = setTimeout(() => this.#process.kill('SIGKILL'), STOP_MS);
    await gone;
    clearTimeout(late);
    for (const mount of this.mounts().reverse()) await run('umount', ['-l', mount]);
  }
}
