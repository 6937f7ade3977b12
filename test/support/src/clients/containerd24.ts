import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { builtProgram } from '../built-program.ts';
import { must, type Output, run } from '../testbed.ts';
import { until } from '../until.ts';

const SCRIPT = join(import.meta.dirname, 'containerd24.sh');

/** Folder of containerd 2.4's programs, or undefined where they were not built. */
export function containerd24(): string | undefined {
  return builtProgram(SCRIPT);
}

/** A containerd 2.4 of the test's own, with the erofs snapshotter and a folder of layer content. */
export class Containerd24 {
  readonly #bin: string;
  readonly #dir: string;
  readonly #process: ChildProcess;

  private constructor(bin: string, dir: string, child: ChildProcess) {
    this.#bin = bin;
    this.#dir = dir;
    this.#process = child;
  }

  /** `dir`: short, since sockets lie there. `mirrors`: registry host to URL. */
  static async start(
    dir: string,
    options: { contentCache: string; mirrors: Readonly<Record<string, string>> },
  ): Promise<Containerd24> {
    const bin = containerd24()!;
    mkdirSync(dir, { recursive: true });
    for (const [host, url] of Object.entries(options.mirrors)) {
      mkdirSync(join(dir, 'certs.d', host), { recursive: true });
      const text = `server = "http://127.0.0.1:9"\n[host."${url}"]\n  capabilities = ["pull", "resolve"]\n`;
      writeFileSync(join(dir, 'certs.d', host, 'hosts.toml'), text);
    }
    writeFileSync(join(dir, 'config.toml'), configOf(dir, options.contentCache));
    const log = openSync(join(dir, 'log'), 'a');
    const env = { ...process.env, PATH: `${bin}:${process.env['PATH']}:/usr/sbin:/sbin` };
    const child = spawn(join(bin, 'containerd'), ['-c', join(dir, 'config.toml')], {
      stdio: ['ignore', log, log],
      detached: true,
      env,
    });
    const containerd = new Containerd24(bin, dir, child);
    await until(async () => (await containerd.ctr(['version'])).code === 0, 'containerd answers', 180_000);
    return containerd;
  }

  async ctr(args: readonly string[]): Promise<Output> {
    return await run(join(this.#bin, 'ctr'), ['-a', join(this.#dir, 'c.sock'), '-n', 'k8s.io', ...args]);
  }

  /** Its client and what that needs, for whoever calls it. */
  get paths(): { readonly ctr: string; readonly address: string; readonly hostsDir: string } {
    return {
      ctr: join(this.#bin, 'ctr'),
      address: join(this.#dir, 'c.sock'),
      hostsDir: join(this.#dir, 'certs.d'),
    };
  }

  async pull(reference: string): Promise<void> {
    await this.#must(this.#pullArgs(reference));
  }

  /** A pull that may fail. `user`: `NAME:PASSWORD`. */
  async tryPull(reference: string, user?: string): Promise<Output> {
    const [images, pull, ...rest] = this.#pullArgs(reference);
    return await this.ctr([images!, pull!, ...(user === undefined ? [] : ['--user', user]), ...rest]);
  }

  /** Runs a container to its end. `options`: more of `ctr run`. */
  async run(
    reference: string,
    name: string,
    command: readonly string[] = [],
    options: readonly string[] = [],
  ): Promise<Output> {
    return await this.ctr([
      'run',
      '--snapshotter',
      'erofs',
      '--rm',
      '--net-host',
      ...options,
      reference,
      name,
      ...command,
    ]);
  }

  /** Digests in the content store. */
  async content(): Promise<string[]> {
    const { stdout } = await this.#must(['content', 'ls', '-q']);
    return stdout.split('\n').filter((line) => line !== '');
  }

  /** Keys of its snapshots. */
  async snapshots(): Promise<string[]> {
    const { stdout } = await this.#must(['snapshots', '--snapshotter', 'erofs', 'ls']);
    return stdout
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => line.split(/\s/)[0]!);
  }

  /** All that may keep a snapshot, and the snapshots. */
  async holds(): Promise<Record<string, readonly string[]>> {
    const list = async (what: string): Promise<string[]> =>
      (await this.#must([what, 'ls', '-q'])).stdout.trim().split('\n');
    const [images, containers, leases] = await Promise.all(['images', 'containers', 'leases'].map(list));
    return { images: images!, containers: containers!, leases: leases!, snapshots: await this.snapshots() };
  }

  /** Forgets images and snapshots, then ends. */
  async stop(): Promise<void> {
    const images = (await this.ctr(['images', 'ls', '-q'])).stdout.split('\n').filter((one) => one !== '');
    for (const image of images) await this.ctr(['images', 'rm', '--sync', image]);
    await this.#end('SIGTERM');
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .map((line) => line.split(' ')[4] ?? '')
      .filter((path) => path.startsWith(`${this.#dir}/`));
    for (const mount of mounts.reverse()) await run('umount', ['-l', mount]);
  }

  /** Ends it at once; all that it mounted stays. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const { exitCode, signalCode } = this.#process;
    if (exitCode !== null || signalCode !== null) return;
    const gone = new Promise((settle) => this.#process.once('exit', settle));
    this.#process.kill(signal);
    await gone;
  }

  #pullArgs(reference: string): string[] {
    return ['images', 'pull', '--snapshotter', 'erofs', '--hosts-dir', join(this.#dir, 'certs.d'), reference];
  }

  async #must(args: readonly string[]): Promise<Output> {
    return await must(join(this.#bin, 'ctr'), ['-a', join(this.#dir, 'c.sock'), '-n', 'k8s.io', ...args]);
  }
}

function configOf(dir: string, contentCache: string): string {
  return `version = 3
root = "${dir}/root"
state = "${dir}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.nri.v1.nri"]
[grpc]
  address = "${dir}/c.sock"
[ttrpc]
  address = "${dir}/t.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "${dir}/opt"
[plugins."io.containerd.snapshotter.v1.erofs"]
  layer_content_caches = ["${contentCache}"]
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux/amd64"
  snapshotter = "erofs"
  differ = "${mkfsTakesTar() ? 'erofs' : 'walking'}"
`;
}

/** Whether layers become EROFS images straight from their tar (erofs-utils 1.7), as `sepia configure` asks for. */
export function mkfsTakesTar(): boolean {
  const { stdout, stderr } = spawnSync('mkfs.erofs', ['--help'], { encoding: 'utf8' });
  return /--tar\b/.test(`${stdout}${stderr}`);
}
