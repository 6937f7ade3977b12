import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Client, credentials, loadPackageDefinition, type ServiceError, status } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';
import { type Digest, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import type { Test } from 'tap';
import { chainId, Grants, LABEL } from '../../src/snapshots/core/grants.ts';
import { serveSnapshots } from '../../src/snapshots/server.ts';
import { SnapshotFolder } from '../../src/snapshots/snapshot-folder.ts';
import { Snapshots } from '../../src/snapshots/snapshots.ts';

/** A digest by a word. */
export const id = (text: string): Digest => digestOf(Buffer.from(text));
const PROTO = join(import.meta.dirname, '../../src/snapshots/snapshots.proto');
/** Layers of the image `m`, which is granted. */
export const BASE = { digest: id('base'), diffId: id('d base') };
export const APP = { digest: id('app'), diffId: id('d app') };

/** Calls as containerd makes them. */
export class Caller {
  readonly #client: Client;

  constructor(socket: string) {
    const loaded = loadPackageDefinition(loadSync(PROTO, { keepCase: true, longs: Number, enums: String }));
    const service = (loaded as never)['containerd']['services']['snapshots']['v1'][
      'Snapshots'
    ] as typeof Client;
    this.#client = new service(`unix:${socket}`, credentials.createInsecure());
  }

  async call<T = object>(method: string, request: object): Promise<T> {
    const client = this.#client as unknown as Record<
      string,
      (request: object, done: (error: ServiceError | null, value: T) => void) => void
    >;
    return await new Promise((resolve, reject) =>
      client[method]!(request, (error, value) => (error === null ? resolve(value) : reject(error))),
    );
  }

  async list(...filters: string[]): Promise<{ name: string; parent: string; kind: string }[]> {
    const client = this.#client as unknown as { List(request: object): AsyncIterable<{ info: [] }> };
    const found: { name: string; parent: string; kind: string }[] = [];
    for await (const { info } of client.List({ filters })) found.push(...info);
    return found;
  }

  close(): void {
    this.#client.close();
  }
}

/** A snapshotter with its socket. */
export interface Daemon {
  readonly caller: Caller;
  readonly snapshots: Snapshots;
  readonly grants: Grants;
  /** Layers that are mounted, by their mount point. */
  readonly mounted: Map<string, string>;
  stop(): Promise<void>;
}

/** A daemon over `dir`; layers whose images are in `broken` cannot be mounted. */
export async function start(
  dir: string,
  broken: readonly string[] = [],
  mounted = new Map<string, string>(),
  Folder = SnapshotFolder,
) {
  const log = silentLogger();
  const grants = new Grants();
  grants.add(id('m'), [BASE, APP], 0);
  const images = new Map<Digest, string>([
    [BASE.diffId, '/images/base'],
    [APP.diffId, '/images/app'],
  ]);
  const snapshots = await Snapshots.open({
    folder: new Folder({ log }, join(dir, 'snapshots')),
    mounts: {
      ensure: async (image, target) => {
        if (broken.includes(image))
          throw new CodedError('START_FAILED', { message: 'no loop device is free' });
        mounted.set(target, image);
      },
      isThere: async (target) => mounted.has(target),
      release: async (target) => void mounted.delete(target),
    },
    grants,
    layerOf: (diffId) => {
      const image = images.get(diffId);
      const usage = async () => ({ sizeBytes: 4096, inodes: 1 });
      return image === undefined ? undefined : { image, usage, use: () => undefined };
    },
    overlayOptions: () => ['index=off'],
    log,
    nowMs: () => 1,
    wallMs: () => 1_700_000_000_500,
  });
  const socket = join(dir, 's.sock');
  const server = await serveSnapshots({ snapshots, socket, log });
  const caller = new Caller(socket);
  const daemon: Daemon = {
    caller,
    snapshots,
    grants,
    mounted,
    stop: async () => {
      caller.close();
      await server.stop();
    },
  };
  return daemon;
}

/** A folder with a short path: a socket lies in it. */
export function shortDir(t: Test): string {
  const dir = mkdtempSync(join(tmpdir(), 's-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** {@link start} in a folder of its own, stopped with the test. */
export async function started(t: Test, broken: readonly string[] = []): Promise<Daemon & { dir: string }> {
  const dir = shortDir(t);
  const daemon = await start(dir, broken);
  t.teardown(() => daemon.stop());
  return { ...daemon, dir };
}

/** Labels as containerd's CRI plugin puts them on a Prepare. */
export const labelsOf = (ref: string, layer: Digest): Record<string, string> => ({
  [LABEL.ref]: ref,
  [LABEL.layer]: layer,
  [LABEL.manifest]: id('m'),
});

/** Chain ID of the upper layer. */
export const TOP = chainId(BASE.diffId, APP.diffId);

/** A pull of the image, whose layers are both granted. */
export async function pull({ caller }: Daemon, t: Test): Promise<void> {
  const base = { key: 'k8s.io/1/extract-1', parent: '', labels: labelsOf(BASE.diffId, BASE.digest) };
  await t.rejects(caller.call('Prepare', base), { code: status.ALREADY_EXISTS });
  const app = { key: 'k8s.io/2/extract-2', parent: BASE.diffId, labels: labelsOf(TOP, APP.digest) };
  await t.rejects(caller.call('Prepare', app), { code: status.ALREADY_EXISTS });
}
