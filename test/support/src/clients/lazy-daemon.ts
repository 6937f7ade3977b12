import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { systemCode } from '@sepia/base/errors';
import { type FilePart, pathLine } from '@sepia/cluster/core/path-line';
import { freePort } from '../testbed.ts';
import { until } from '../until.ts';

const ROOT = join(import.meta.dirname, '../../../..');

/** Index files, of one image or each with its own. */
type ShownLayers =
  | { image: string; indexes: readonly string[] }
  | { layers: readonly { index: string; image: string }[] };

/** `sepia snapshotter` of a test: its files lie in `dir`, the mount in `dir/mnt`. It ends with the test. */
export class LazyDaemon {
  readonly #dir: string;
  readonly #admin: string;

  private constructor(dir: string, admin: string) {
    this.#dir = dir;
    this.#admin = admin;
  }

  static async start(
    t: { teardown(done: () => unknown): void },
    dir: string,
    options: {
      agent: string;
      readDeadline?: string;
      /** Files that are fetched first; the rest is filled too then. */
      fillFirst?: readonly string[];
      /** The agent's; with it what is pulled is told to the daemon, and all is filled. */
      nodeSecretFile?: string;
    } & ShownLayers,
  ): Promise<LazyDaemon> {
    const admin = `127.0.0.1:${await freePort()}`;
    const config = {
      data: join(dir, 'snapshotter'),
      'admin-listen': admin,
      agent: options.agent,
      mount: join(dir, 'mnt'),
      'content-cache': join(dir, 'content'),
      fill: options.fillFirst === undefined && options.nodeSecretFile === undefined ? 'none' : 'all',
      ...(options.fillFirst === undefined ? {} : { 'fill-first': join(dir, 'first.paths') }),
      ...(options.nodeSecretFile === undefined ? {} : { 'node-secret-file': options.nodeSecretFile }),
      'read-deadline': options.readDeadline ?? '60s',
      layers:
        'layers' in options
          ? options.layers
          : options.indexes.map((index) => ({ index, image: options.image })),
    };
    if (options.fillFirst !== undefined)
      writeFileSync(join(dir, 'first.paths'), options.fillFirst.join('\n'));
    writeFileSync(join(dir, 'snapshotter.yaml'), JSON.stringify(config));
    const daemon = new LazyDaemon(dir, admin);
    // The command only sees to it that the holder runs; its end leaves the mount.
    const command = daemon.#command();
    t.teardown(async () => {
      // It waits, and may have to start a holder, where the daemon was not ready in time.
      command.kill('SIGKILL');
      await daemon.end();
    });
    await until(async () => (await daemon.#get('/readyz')) !== undefined, 'the daemon is ready', 180_000);
    command.kill('SIGTERM');
    return daemon;
  }

  /** The command once more, as at a restart: another daemon serves when this resolves. */
  async restart(): Promise<void> {
    const before = await this.pid();
    const command = this.#command();
    try {
      await until(async () => (await this.pid()) !== before, 'the next daemon', 180_000);
    } finally {
      command.kill('SIGTERM');
    }
  }

  #command(): ChildProcess {
    const main = join(ROOT, 'snapshotter/src/main.ts');
    const config = join(this.#dir, 'snapshotter.yaml');
    return spawn(process.execPath, [main, '--config', config], { stdio: 'inherit' });
  }

  /** What was read, as lines of a list, in the order of first reads. */
  async filesRead(): Promise<string[]> {
    const answer = await this.#debug('reads');
    const layers = (await answer.json()) as { files: { path: string; turn: number; part?: FilePart }[] }[];
    const files = layers.flatMap((one) => one.files).sort((a, b) => a.turn - b.turn);
    return files.map(({ path, part }) => pathLine(path, part));
  }

  async fetchedBytes(): Promise<number> {
    return await this.#metric('sepia_snapshotter_fetched_bytes_total');
  }

  /** What it says of itself. */
  async readyz(): Promise<string> {
    return (await this.#get('/readyz')) ?? '';
  }

  /** Reads that wait for the agent. */
  async waitingReads(): Promise<number> {
    return await this.#metric('sepia_snapshotter_waiting_reads');
  }

  get adminUrl(): string {
    return `http://${this.#admin}`;
  }

  /** What it says of its layers. */
  async status(): Promise<readonly { indexFile: string; state: string; reason?: string }[]> {
    const answer = await this.#debug('layers');
    return (await answer.json()) as { indexFile: string; state: string; reason?: string }[];
  }

  async #debug(name: string): Promise<Response> {
    const token = readFileSync(join(this.#dir, 'snapshotter/debug-token'), 'utf8');
    return await fetch(`http://${this.#admin}/debug/${name}`, {
      headers: { authorization: `Bearer ${token}` },
    });
  }

  async #metric(name: string): Promise<number> {
    const metrics = (await this.#get('/metrics')) ?? '';
    return Number(new RegExp(`^${name}\\{.*\\} (\\d+)`, 'm').exec(metrics)?.[1]);
  }

  /** Process of the daemon, waited for. */
  async pid(): Promise<number> {
    await until(async () => (await this.#get('/readyz')) !== undefined, 'the daemon is ready', 180_000);
    return Number(readFileSync(join(this.#dir, 'snapshotter/holder.pid.daemon'), 'utf8'));
  }

  /** Process of the shell that holds the mount. */
  get holder(): number {
    return this.#holder();
  }

  /** Ends holder and daemon, if they run; killed, they leave the mount as a failed system does. */
  async end(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    if (signal === 'SIGKILL') {
      // The second shell first: it would take the holder's place.
      for (const which of ['.second', '', '.daemon']) process.kill(this.#holder(which), 'SIGKILL');
      for (const which of ['.second', '', '.daemon'])
        rmSync(join(this.#dir, `snapshotter/holder.pid${which}`), { force: true });
      return;
    }
    // Told twice it would end before it has taken its pid files away.
    const holder = existsSync(join(this.#dir, 'snapshotter/holder.pid')) ? this.#holder() : undefined;
    if (holder !== undefined && isHolder(holder)) process.kill(holder, 'SIGTERM');
    const isMounted = (): boolean =>
      readFileSync('/proc/self/mountinfo', 'utf8').includes(`${this.#dir}/mnt`);
    const isGone = (): boolean => !isMounted() && (holder === undefined || !isHolder(holder));
    await until(isGone, 'the mount and its holder are gone', 180_000);
  }

  #holder(which = ''): number {
    return Number(readFileSync(join(this.#dir, `snapshotter/holder.pid${which}`), 'utf8'));
  }

  async #get(path: string): Promise<string | undefined> {
    try {
      const answer = await fetch(`http://${this.#admin}${path}`);
      return answer.ok ? await answer.text() : undefined;
    } catch (error) {
      // Nobody listens (yet, or any more): "fetch failed" with the socket's error as its cause.
      if (!(error instanceof TypeError) || error.cause === undefined) throw error;
      return undefined;
    }
  }
}

/** Whether a holder runs under this number: another process may have it by now, or nobody has taken note of its end yet. */
function isHolder(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('holder.sh');
  } catch (error) {
    if (!['ENOENT', 'ESRCH'].includes(systemCode(error) ?? '')) throw error;
    return false;
  }
}
