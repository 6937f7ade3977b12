import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePorts } from './free-ports.ts';
import { until } from './until.ts';

/** Where Debian puts the programs of each version. */
const VERSIONS = '/usr/lib/postgresql';
const USER = 'sepia';
const READY_MS = 60_000;

/**
 * False where tests may start a PostgreSQL, else why not. `npm test` needs no foreign programs: it leaves them out by
 * name; `npm run test:processes` runs them, and in CI nothing may be missing.
 */
export function noPostgres(): string | false {
  if (process.env['SEPIA_PROCESSES'] !== '1') return 'starts a PostgreSQL: npm run test:processes';
  if (programs() !== undefined || process.env['CI'] === 'true') return false;
  return `PostgreSQL is not installed below ${VERSIONS}`;
}

/** A PostgreSQL of a test's own: an empty cluster on a port of loopback, run by a user without rights. */
export class PostgresServer {
  readonly port: number;
  readonly #dir: string;
  readonly #bin: string;
  #child: ChildProcess | undefined;

  private constructor(bin: string, dir: string, port: number) {
    this.#bin = bin;
    this.#dir = dir;
    this.port = port;
  }

  /** Makes a cluster and starts it. Stop it with {@link remove}. */
  static async start(): Promise<PostgresServer> {
    const bin = programs();
    if (bin === undefined) throw new Error(`PostgreSQL is not installed below ${VERSIONS}`);
    const dir = mkdtempSync(join(tmpdir(), 'sepia-postgres-'));
    chmodSync(dir, 0o700);
    const { uid, gid } = unprivileged();
    if (uid !== undefined) chownSync(dir, uid, gid!);
    const data = join(dir, 'data');
    execFileSync(
      join(bin, 'initdb'),
      ['-D', data, '-U', USER, '-A', 'trust', '-E', 'UTF8', '--no-locale', '-N'],
      {
        ...unprivileged(),
        cwd: dir,
        stdio: 'pipe',
      },
    );
    const [port] = await freePorts(1);
    const server = new PostgresServer(bin, dir, port!);
    await server.resume();
    return server;
  }

  get url(): string {
    return `postgres://${USER}@127.0.0.1:${this.port}/postgres`;
  }

  /** Starts the server again with what it has on its disk. */
  async resume(settings: readonly string[] = []): Promise<void> {
    const options = [
      `listen_addresses=127.0.0.1`,
      `port=${this.port}`,
      `unix_socket_directories=${this.#dir}`,
      ...settings,
    ];
    const args = ['-D', join(this.#dir, 'data'), ...options.flatMap((one) => ['-c', one])];
    this.#child = spawn(join(this.#bin, 'postgres'), args, {
      ...unprivileged(),
      cwd: this.#dir,
      stdio: 'ignore',
    });
    await until(async () => await this.#answers(), 'PostgreSQL accepts connections', READY_MS);
  }

  /** Ends it at once, with nothing written down: as the power would. */
  async kill(): Promise<void> {
    await this.#end('SIGQUIT');
  }

  /** Ends it and takes its folder away. */
  async remove(): Promise<void> {
    await this.#end('SIGINT');
    rmSync(this.#dir, { recursive: true, force: true });
  }

  /** Runs SQL as the cluster's superuser. */
  sql(text: string): string {
    const args = ['-X', '-q', '-t', '-A', '-v', 'ON_ERROR_STOP=1', '-c', text, this.url];
    return execFileSync(join(this.#bin, 'psql'), args, { encoding: 'utf8', stdio: 'pipe' }).trim();
  }

  async #end(signal: 'SIGQUIT' | 'SIGINT'): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill(signal);
    await ended;
  }

  async #answers(): Promise<boolean> {
    if (this.#child?.exitCode !== null) throw new Error(`PostgreSQL ended with ${this.#child?.exitCode}`);
    const isOpen = await new Promise<boolean>((resolve) => {
      const socket = connect(this.port, '127.0.0.1', () => resolve(true));
      socket.once('error', () => resolve(false));
      socket.once('connect', () => socket.destroy());
    });
    if (!isOpen) return false;
    try {
      return this.sql('SELECT 1') === '1';
    } catch (error) {
      // It listens, and still starts.
      if ((error as { status?: unknown }).status === 2) return false;
      throw error;
    }
  }
}

/** The folder of the newest installed version's programs. */
function programs(): string | undefined {
  if (!existsSync(VERSIONS)) return undefined;
  return readdirSync(VERSIONS)
    .sort((a, b) => Number(b) - Number(a))
    .map((version) => join(VERSIONS, version, 'bin'))
    .find((bin) => existsSync(join(bin, 'initdb')));
}

/** It does not run as root: as the user that its package made. */
function unprivileged(): { readonly uid?: number; readonly gid?: number } {
  if (process.getuid?.() !== 0) return {};
  const idOf = (flag: string): number => Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8' }));
  return { uid: idOf('-u'), gid: idOf('-g') };
}
