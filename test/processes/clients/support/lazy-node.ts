import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { digestOf } from '@sepia/base/digest';
import { LayerIndexer } from '@sepia/lazy/index/layer-indexer';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { Containerd24, containerd24 } from '@sepia/test-support/clients/containerd24';
import { LazyDaemon } from '@sepia/test-support/clients/lazy-daemon';
import { pushBlobInTwo, pushManifest } from '@sepia/test-support/clients/registry-calls';
import { freePort, run, startRegistry, whyNoClients } from '@sepia/test-support/testbed';
import type { Test } from 'tap';
import { type TarPart, writeTar } from '../../../../shared/lazy/test/support/tar-writer.ts';
import { Relay } from './relay.ts';

export const HOST = 'registry.example:5000';

/** Why no lazy image can be run here, or undefined. */
export function whyNoLazyNode(): string | undefined {
  if (containerd24() === undefined) return 'run test/support/src/clients/containerd24.sh';
  return whyNoClients();
}

/** A layer, and the index that makes it lazy; left out: it is ordinary. */
export interface MadeLayer {
  readonly blob: Buffer;
  readonly diffId: string;
  readonly index: Buffer;
}

/** A layer of these entries, compressed and indexed. */
export function madeLayer(parts: readonly TarPart[]): MadeLayer {
  const tar = writeTar(parts);
  const blob = gzipSync(tar, { level: 1 });
  const indexer = new LayerIndexer();
  indexer.push(blob);
  return { blob, diffId: digestOf(tar), index: indexer.end().bytes };
}

/** A shell, and what it calls: this machine's static busybox. */
export function shellLayer(): MadeLayer {
  const tools = ['sh', 'cat', 'true', 'sha256sum', 'sleep', 'seq', 'echo', 'ls', 'dd'];
  return madeLayer([
    ...['bin/', 'proc/', 'sys/', 'dev/', 'tmp/'].map((name) => ({ name, typeFlag: '5', mode: 0o755 })),
    { name: 'bin/busybox', mode: 0o755, payload: readFileSync('/usr/bin/busybox') },
    ...tools.map((tool) => ({ name: `bin/${tool}`, typeFlag: '2', linkName: 'busybox', mode: 0o777 })),
  ]);
}

/** An image to be pushed to the test's registry. */
export interface MadeImage {
  readonly repository: string;
  readonly layers: readonly MadeLayer[];
}

/**
 * A containerd with a snapshotter and a registry: that answers ranges, and stands in for the agent. Its images are shown
 * by their index files.
 */
export class LazyNode {
  readonly dir: string;
  readonly images: readonly string[];
  /** Between the snapshotter and the registry. */
  readonly agent: Relay;
  readonly #registry: string;
  readonly #start: () => Promise<LazyDaemon>;
  #daemon: LazyDaemon;
  #containerd: Containerd24;

  private constructor(
    given: Pick<LazyNode, 'dir' | 'images' | 'agent'> & { registry: string },
    start: () => Promise<LazyDaemon>,
    parts: { daemon: LazyDaemon; containerd: Containerd24 },
  ) {
    this.dir = given.dir;
    this.images = given.images;
    this.agent = given.agent;
    this.#registry = given.registry;
    this.#start = start;
    this.#daemon = parts.daemon;
    this.#containerd = parts.containerd;
  }

  /** Ended by the test's teardown. */
  static async start(t: Test, images: readonly MadeImage[], readDeadline = '60s'): Promise<LazyNode> {
    const dir = mkdtempSync('/tmp/sepia-ln-');
    t.teardown(() => rmSync(dir, { recursive: true, force: true }));
    const port = await freePort();
    await startRegistry(t, port);
    const registry = `http://127.0.0.1:${port}`;
    for (const image of images) await push(registry, image);
    mkdirSync(join(dir, 'indexes'));
    const layers = images.flatMap(({ repository, layers: made }, at) =>
      made.map(({ index: bytes }, number) => {
        const index = join(dir, 'indexes', `${at}-${number}`);
        writeFileSync(index, bytes);
        return { index, image: `${HOST}/${repository}` };
      }),
    );
    const agent = await Relay.to(t, port);
    const url = `http://127.0.0.1:${agent.port}`;
    const start = (): Promise<LazyDaemon> => LazyDaemon.start(t, dir, { agent: url, layers, readDeadline });
    const daemon = await start();
    const containerd = await startContainerd(dir, registry);
    const names = images.map(({ repository }) => `${HOST}/${repository}:1`);
    const node = new LazyNode({ dir, agent, images: names, registry }, start, { daemon, containerd });
    t.teardown(() => node.containerd.stop());
    return node;
  }

  get daemon(): LazyDaemon {
    return this.#daemon;
  }

  get containerd(): Containerd24 {
    return this.#containerd;
  }

  /**
   * As a reboot leaves it: no process, no mount, nothing in folders that are in memory, another boot. `clean`: the
   * holder was told to end before, else all lost their power.
   */
  async reboot(how: 'clean' | 'power-cut'): Promise<void> {
    await this.#containerd.kill();
    await this.#daemon.end(how === 'clean' ? 'SIGTERM' : 'SIGKILL');
    for (const { target } of mountsIn(this.dir).toReversed()) await run('umount', ['-l', target]);
    rmSync(join(this.dir, 'c/state'), { recursive: true, force: true });
    const layers = join(this.dir, 'snapshotter/layers');
    for (const layer of readdirSync(layers)) otherBoot(join(layers, layer, 'map'));
    this.#daemon = await this.#start();
    this.#containerd = await startContainerd(this.dir, this.#registry);
  }

  /** Index file of a layer. */
  indexOf(image: number, layer: number): string {
    return join(this.dir, 'indexes', `${image}-${layer}`);
  }

  /** Digests of an image's layers that containerd has stored. */
  async stored({ layers }: MadeImage): Promise<string[]> {
    const content = await this.containerd.content();
    return layers.map(({ blob }) => digestOf(blob)).filter((digest) => content.includes(digest as string));
  }
}

async function startContainerd(dir: string, registry: string): Promise<Containerd24> {
  const mirrors = { [HOST]: registry };
  return await Containerd24.start(join(dir, 'c'), { contentCache: join(dir, 'content'), mirrors });
}

/** Its bits were noted by a boot that is not this one (`span-map.ts`). */
function otherBoot(map: string): void {
  if (!existsSync(map)) return;
  const bytes = readFileSync(map);
  bytes.write('0'.repeat(36), 16, 'latin1');
  writeFileSync(map, bytes);
}

async function push(url: string, { repository, layers }: MadeImage): Promise<void> {
  for (const { blob } of layers) await pushBlobInTwo(url, repository, blob);
  const config = Buffer.from(
    JSON.stringify({
      ...{ os: 'linux', architecture: 'amd64', config: { Cmd: ['/bin/true'], Env: ['PATH=/bin'] } },
      rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
    }),
  );
  const part = (bytes: Buffer, mediaType: string): object => ({
    ...{ mediaType, digest: digestOf(bytes), size: bytes.length },
  });
  await pushBlobInTwo(url, repository, config);
  await pushManifest(
    url,
    repository,
    {
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: part(config, 'application/vnd.oci.image.config.v1+json'),
      layers: layers.map(({ blob }) => part(blob, 'application/vnd.oci.image.layer.v1.tar+gzip')),
    },
    '1',
  );
}

/** What is mounted from the folder or in it. */
export function mountsIn(dir: string): { readonly target: string }[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => line.includes(dir))
    .map((line) => ({ target: line.split(' ')[4]! }));
}

/** A process's memory in MiB: now, and the most that it had. */
export function memoryOf(pid: number): { readonly nowMib: number; readonly mostMib: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const mib = (field: string): number =>
    Math.round(Number(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm').exec(status)?.[1]) / 1024);
  return { nowMib: mib('VmRSS'), mostMib: mib('VmHWM') };
}
