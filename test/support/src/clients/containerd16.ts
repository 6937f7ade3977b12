import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { must, type Output, run, TESTBED } from '../testbed.ts';
import { until } from '../until.ts';

const CRI_PULL = join(TESTBED, 'cri-pull.mjs');
/**
 * A fault of containerd before 1.6.37 (its PR 10764): the unpacker finds the snapshot of a lower layer that an ended pull
 * left and does not hold it, and the garbage collection that is due takes it before the next layer stands on it.
 */
const COLLECTED = /parent snapshot sha256:[0-9a-f]{64} does not exist: not found/;
const PULLS = 3;

/** The containerd of the machine (Debian 12: 1.6), with a remote snapshotter behind `proxy_plugins`. */
export class Containerd16 {
  readonly #dir: string;
  readonly #snapshotter: string;
  #process: ChildProcess | undefined;

  private constructor(dir: string, snapshotter: string) {
    this.#dir = dir;
    this.#snapshotter = snapshotter;
  }

  /** `dir`: short, since sockets lie there. `mirrors`: registry host to URL. `snapshotter`: its name; left out: `sepia`. */
  static async start(
    dir: string,
    options: {
      readonly snapshotsSocket: string;
      readonly mirrors: Readonly<Record<string, string>>;
      readonly snapshotter?: string;
    },
  ): Promise<Containerd16> {
    mkdirSync(join(dir, 'cni'), { recursive: true });
    for (const [host, url] of Object.entries(options.mirrors)) {
      mkdirSync(join(dir, 'certs.d', host), { recursive: true });
      writeFileSync(join(dir, 'certs.d', host, 'hosts.toml'), hostsToml(url));
    }
    const { snapshotsSocket, snapshotter = 'sepia' } = options;
    writeFileSync(join(dir, 'config.toml'), configOf(dir, snapshotter, snapshotsSocket));
    const containerd = new Containerd16(dir, snapshotter);
    await containerd.begin();
    return containerd;
  }

  /** Starts the daemon, again if it was ended. */
  async begin(): Promise<void> {
    const log = openSync(join(this.#dir, 'log'), 'a');
    this.#process = spawn('containerd', ['-c', join(this.#dir, 'config.toml')], {
      stdio: ['ignore', log, log],
      detached: true,
    });
    await until(async () => (await this.ctr(['version'])).code === 0, 'containerd answers', 180_000);
  }

  async end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const running = this.#process;
    if (running === undefined || running.exitCode !== null || running.signalCode !== null) return;
    const gone = new Promise((settle) => running.once('exit', settle));
    running.kill(signal);
    await gone;
  }

  async ctr(args: readonly string[]): Promise<Output> {
    return await run('ctr', this.#ctrArgs(args));
  }

  /** Where it listens. */
  get address(): string {
    return join(this.#dir, 'c.sock');
  }

  /** From now on it shows a mirror this `Authorization`, or none: `hosts.toml` is read at each pull. */
  authorize(host: string, url: string, authorization?: string): void {
    writeFileSync(join(this.#dir, 'certs.d', host, 'hosts.toml'), hostsToml(url, authorization));
  }

  /**
   * As the kubelet pulls: with the labels that a remote snapshotter needs, and again where containerd's own collection
   * came between ({@link COLLECTED}), after the collection that takes all that is left of earlier pulls.
   */
  async tryPull(reference: string): Promise<Output> {
    for (let pulls = 1; ; pulls++) {
      const pulled = await run(process.execPath, [CRI_PULL, this.address, reference]);
      if (pulls === PULLS || pulled.code === 0 || !COLLECTED.test(pulled.stderr)) return pulled;
      await this.#collect();
    }
  }

  async run(reference: string, name: string, command: readonly string[] = []): Promise<Output> {
    const options = ['--snapshotter', this.#snapshotter, '--rm', '--net-host'];
    return await this.ctr(['run', ...options, reference, name, ...command]);
  }

  /** Waits until it reaches the snapshotter: after a failed connection it tries again only after a while. */
  async untilConnected(): Promise<void> {
    const list = ['snapshots', '--snapshotter', this.#snapshotter, 'ls'];
    await until(async () => (await this.ctr(list)).code === 0, 'containerd reaches the snapshotter', 180_000);
  }

  /** Mounts, read-only, the file system of the one image that a snapshotter has. `snapshotter`: left out, its own. */
  async mount(target: string, snapshotter = this.#snapshotter): Promise<void> {
    mkdirSync(target);
    const snapshots = this.#ctrArgs(['snapshots', '--snapshotter', snapshotter]);
    const { stdout: list } = await must('ctr', [...snapshots, 'ls']);
    const rows = list
      .trim()
      .split('\n')
      .slice(1)
      .map((line) => line.trim().split(/\s+/));
    const isParent = new Set(rows.flatMap((row) => (row.length === 3 ? [row[1]] : [])));
    const top = rows.find((row) => row.at(-1) === 'Committed' && !isParent.has(row[0]));
    const view = await must('ctr', [...snapshots, 'view', '--target', target, `view-${target}`, top![0]!]);
    await must('sh', ['-c', view.stdout]);
  }

  /** Pulls and unpacks an image as ever, for another snapshotter. */
  async pullFor(snapshotter: string, reference: string): Promise<void> {
    const hosts = ['--hosts-dir', join(this.#dir, 'certs.d')];
    await must('ctr', this.#ctrArgs(['images', 'pull', '--snapshotter', snapshotter, ...hosts, reference]));
  }

  /** Digests in the content store. */
  async content(): Promise<string[]> {
    const { stdout } = await must('ctr', this.#ctrArgs(['content', 'ls', '-q']));
    return stdout.split('\n').filter((line) => line !== '');
  }

  /** Forgets all images; their snapshots go at once. */
  async removeImages(): Promise<void> {
    const images = (await this.ctr(['images', 'ls', '-q'])).stdout.split('\n').filter((one) => one !== '');
    if (images.length > 0) await must('ctr', this.#ctrArgs(['images', 'rm', '--sync', ...images]));
  }

  /** Resolves after a garbage collection: the end of a lease can be waited for together with one. */
  async #collect(): Promise<void> {
    const lease = `collect-${randomUUID()}`;
    await must('ctr', this.#ctrArgs(['leases', 'create', '--id', lease]));
    await must('ctr', this.#ctrArgs(['leases', 'rm', '--sync', lease]));
  }

  /** What is kept in its log. */
  log(): string {
    return readFileSync(join(this.#dir, 'log'), 'utf8');
  }

  async stop(): Promise<void> {
    await this.removeImages();
    await this.end('SIGTERM');
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
      .split('\n')
      .map((line) => line.split(' ')[4] ?? '')
      .filter((path) => path.startsWith(`${this.#dir}/`));
    for (const mount of mounts.reverse()) await run('umount', ['-l', mount]);
  }

  #ctrArgs(args: readonly string[]): string[] {
    return ['-a', this.address, '-n', 'k8s.io', ...args];
  }
}

function hostsToml(url: string, authorization?: string): string {
  const mirror = `server = "http://127.0.0.1:9"\n[host."${url}"]\n  capabilities = ["pull", "resolve"]\n`;
  if (authorization === undefined) return mirror;
  return `${mirror}  [host."${url}".header]\n    Authorization = "${authorization}"\n`;
}

function configOf(dir: string, snapshotter: string, socket: string): string {
  return `version = 2
root = "${dir}/root"
state = "${dir}/state"
[grpc]
  address = "${dir}/c.sock"
[proxy_plugins.${snapshotter}]
  type = "snapshot"
  address = "${socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "${dir}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "${snapshotter}"
    disable_snapshot_annotations = false
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "${dir}/certs.d"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "${dir}/cni"
`;
}
