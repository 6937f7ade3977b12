import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startMadeRegistry } from '@sepia/test-support/clients/made-registry';
import { pushBlobInTwo } from '@sepia/test-support/clients/registry-calls';
import type { TestUser } from '@sepia/test-support/clients/token-client';
import { freePort, must } from '@sepia/test-support/testbed';
import { until } from '@sepia/test-support/until';
import { Up } from '@sepia/test-support/up';
import type { Test } from 'tap';
import {
  imagesOf,
  imagesText,
  snapshotterImages,
  snapshotterLayers,
} from '../../../../cli/src/lazy/snapshotter-status.ts';

const ROOT = join(import.meta.dirname, '../../../..');
export const HOST = 'registry.example:5000';
export const IMAGE = `${HOST}/t/python:oci`;

export interface Part {
  readonly digest: string;
  readonly size: number;
  readonly mediaType: string;
}

export interface Manifest {
  readonly config: Part;
  readonly layers: readonly Part[];
}

export const digestOf = (bytes: Buffer): string =>
  `sha256:${createHash('sha256').update(bytes).digest('hex')}`;

/** A registry with one image, and a cluster with one agent and the snapshotter of its node. */
export class LazyCluster {
  readonly dir: string;
  readonly up: Up;
  readonly registry: string;
  readonly #root: string;

  private constructor(dir: string, up: Up, registry: string) {
    this.dir = dir;
    this.up = up;
    this.registry = registry;
    this.#root = join(dir, 'up');
  }

  /**
   * `snapshotter`: lines of its config. `own`: a registry of the test's, and the account that origins read it with; left
   * out, one with {@link IMAGE}. Ended by the test's teardown.
   */
  static async start(
    t: Test,
    snapshotter: (dir: string) => string,
    own?: { readonly registry: string; readonly robot: TestUser },
  ): Promise<LazyCluster> {
    const dir = mkdtempSync('/tmp/sepia-lc-');
    t.teardown(() => rmSync(dir, { recursive: true, force: true }));
    const registry = own?.registry ?? (await registryWithPython(t));
    const root = join(dir, 'up');
    mkdirSync(join(root, 'overrides'), { recursive: true });
    writeFileSync(join(root, 'overrides', 'agent.yaml'), 'lazy-wait: 20s\n');
    if (own !== undefined) {
      writeFileSync(join(root, 'overrides', 'robot'), own.robot.password);
      const robot = { username: own.robot.username, 'password-file': '../overrides/robot' };
      const origin = JSON.stringify({ credentials: { 'local-registry': robot } });
      writeFileSync(join(root, 'overrides', 'origin.yaml'), origin);
    }
    writeFileSync(join(root, 'overrides', 'snapshotter.yaml'), snapshotter(dir));
    const up = await Up.start(root, [
      ...['--agents', '1', '--origins', '1', '--trackers', '1', '--proxies', '1', '--lazy'],
      ...['--upstream', `local-registry=${registry},${HOST}`, '--ports-from', '22000'],
    ]);
    const cluster = new LazyCluster(dir, up, registry);
    t.teardown(async () => {
      await up.stop();
      process.kill(cluster.holder, 'SIGTERM');
      const isMounted = (): boolean => readFileSync('/proc/self/mountinfo', 'utf8').includes(root);
      await until(() => !isMounted(), 'the mount is gone', 180_000);
    });
    // What is pulled before is pulled as ever, and nobody knows of it.
    await until(async () => await cluster.#isAsked(), 'the snapshotter asks its agent', 60_000);
    return cluster;
  }

  /** The file by which its operator's commands find it. */
  get file(): string {
    return join(this.#root, 'cluster.json');
  }

  get agent(): string {
    return this.up.cluster.agents[0]!.url;
  }

  /** Process of the shell that holds the mount. */
  get holder(): number {
    return Number(readFileSync(join(this.#root, 'members/snapshotter-1/data/holder.pid'), 'utf8'));
  }

  /** Process of the daemon, or NaN while there is none. */
  get daemon(): number {
    const file = join(this.#root, 'members/snapshotter-1/data/holder.pid.daemon');
    return existsSync(file) ? Number(readFileSync(file, 'utf8')) : Number.NaN;
  }

  /** Kills the daemon; the holder starts the next one, which serves when this resolves. */
  async killDaemon(): Promise<void> {
    const before = this.daemon;
    process.kill(before, 'SIGKILL');
    const isServed = async (): Promise<boolean> => {
      if (!(this.daemon > 0) || this.daemon === before) return false;
      return (await this.metrics()) !== undefined;
    };
    await until(isServed, 'the next daemon', 180_000);
  }

  /** Metrics of the daemon, or undefined while it does not answer. */
  async metrics(): Promise<string | undefined> {
    return await this.told('/metrics');
  }

  async #isAsked(): Promise<boolean> {
    const answer = await fetch(`${this.up.cluster.agents[0]!.adminUrl}/metrics`);
    return /^sepia_agent_snapshotter_asks\b.* 1$/m.test(await answer.text());
  }

  /** What the daemon says at a path of its admin endpoint, or undefined while it does not answer. */
  async told(path: string): Promise<string | undefined> {
    try {
      const token = readFileSync(join(this.#root, 'members/snapshotter-1/data/debug-token'), 'utf8');
      const headers = { authorization: `Bearer ${token}` };
      return await (await fetch(`${this.up.cluster.snapshotters[0]!.adminUrl}${path}`, { headers })).text();
    } catch (error) {
      // Nobody listens: "fetch failed" with the socket's error as its cause.
      if (!(error instanceof TypeError) || error.cause === undefined) throw error;
      return undefined;
    }
  }

  /** The end of what the daemon logged. */
  log(characters: number): string {
    return readFileSync(join(this.#root, 'members/snapshotter-1/data/log'), 'utf8').slice(-characters);
  }

  async sepia(...args: string[]): Promise<string> {
    return (await must(join(ROOT, 'sepia'), args)).stdout;
  }

  /** Of an image, or all that the snapshotter says. */
  async status(...reference: readonly [] | readonly [string]): Promise<string> {
    const { adminUrl } = this.up.cluster.snapshotters[0]!;
    return await this.sepia('lazy', 'status', ...reference, '--admin', adminUrl);
  }

  /** What {@link status} prints, without a process for each question. */
  async statusText(reference: string): Promise<string> {
    const { adminUrl } = this.up.cluster.snapshotters[0]!;
    const [images, layers] = await Promise.all([snapshotterImages(adminUrl), snapshotterLayers(adminUrl)]);
    return imagesText(imagesOf(images, reference), layers);
  }

  /** Meanwhile the cluster indexes nothing: who would do it is halted. */
  async withoutIndexing(work: () => Promise<void>): Promise<void> {
    const { accelerators } = this.up.cluster;
    if (accelerators.length === 0) throw new Error('nobody indexes here');
    for (const { pid } of accelerators) process.kill(pid, 'SIGSTOP');
    try {
      await work();
    } finally {
      for (const { pid } of accelerators) process.kill(pid, 'SIGCONT');
    }
  }

  /** Pulls an image by hand, so that the cluster indexes it, and waits for that. */
  async index(reference: string): Promise<void> {
    await this.sepia('pull', reference, '--agent', this.agent);
    const show = ['lazy', 'show', reference, '--cluster', this.file];
    const isIndexed = async (): Promise<boolean> =>
      (await this.sepia(...show))
        .trim()
        .split('\n')
        .every((line) => line.includes('  lazy: index '));
    await until(isIndexed, 'every layer has its index', 240_000);
  }

  async manifest(repository: string, tag: string): Promise<Manifest> {
    const headers = { accept: 'application/vnd.oci.image.manifest.v1+json' };
    const answer = await fetch(`${this.registry}/v2/${repository}/manifests/${tag}`, { headers });
    return (await answer.json()) as Manifest;
  }

  async blob(repository: string, digest: string): Promise<Buffer> {
    const answer = await fetch(`${this.registry}/v2/${repository}/blobs/${digest}`);
    return Buffer.from(await answer.arrayBuffer());
  }

  /** Pushes an image with these layers and the config of another, changed in its author: one of its own. */
  async pushLike(
    manifest: Manifest,
    repository: string,
    layers: readonly (Buffer | Part)[],
    from = 't/python',
  ): Promise<void> {
    const text = (await this.blob(from, manifest.config.digest)).toString('utf8');
    const config = Buffer.from(JSON.stringify({ ...JSON.parse(text), author: repository }));
    await pushBlobInTwo(this.registry, repository, config);
    const parts: Part[] = [];
    for (const layer of layers) {
      if (Buffer.isBuffer(layer)) await pushBlobInTwo(this.registry, repository, layer);
      const { mediaType } = manifest.layers[0]!;
      parts.push(Buffer.isBuffer(layer) ? { mediaType, digest: digestOf(layer), size: layer.length } : layer);
    }
    const ownConfig = { ...manifest.config, digest: digestOf(config), size: config.length };
    const headers = { 'content-type': 'application/vnd.oci.image.manifest.v1+json' };
    const body = JSON.stringify({ ...manifest, config: ownConfig, layers: parts });
    const done = await fetch(`${this.registry}/v2/${repository}/manifests/1`, {
      method: 'PUT',
      body,
      headers,
    });
    if (done.status !== 201) throw new Error(`push of a manifest: ${done.status} ${await done.text()}`);
  }
}

/** @returns its URL */
async function registryWithPython(t: Test): Promise<string> {
  const port = await freePort();
  await startMadeRegistry(t, port, 'python');
  return `http://127.0.0.1:${port}`;
}
