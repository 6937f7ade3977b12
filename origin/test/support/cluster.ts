import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { MemberClock } from '@sepia/base/clock/member-clock';
import { type Digest, digestHex } from '@sepia/base/digest';
import { silentLogger } from '@sepia/base/log';
import { Cluster } from '@sepia/cluster/cluster';
import { loadClusterDocument } from '@sepia/cluster/load-document';
import { InternalClient, type InternalRequest } from '@sepia/http/client';
import { createDispatcher } from '@sepia/http/sockets';
import { freePorts } from '@sepia/test-support/free-ports';
import type { Test } from 'tap';
import { createOrigin, loadOriginConfig, type Origin } from '../../src/index.ts';

export interface ClusterOptions {
  readonly origins: number;
  /** The first so many are the ring at first, and in the document of these; default: all. */
  readonly ring?: number;
  /** Extra upstreams after `local` (mode none). */
  readonly upstreams?: readonly object[];
  /** Further keys of the cluster document. */
  readonly document?: object;
  /** Lines added to every origin's config. */
  readonly config?: string;
  /** Tombstones may go after this long, in ms; a file may not say less than a minute. */
  readonly tombstonesMs?: number;
}

interface Answer {
  readonly status: number;
  readonly headers: Record<string, string | string[] | undefined>;
  readonly bytes: Buffer;
}

export interface TestCluster {
  readonly ids: readonly string[];
  readonly cluster: Cluster;
  readonly client: InternalClient;
  readonly origins: Map<string, Origin>;
  call(id: string, call: Omit<InternalRequest, 'url' | 'to' | 'headersTimeoutMs'>): Promise<Answer>;
  get(id: string, path: string, headers?: InternalRequest['headers']): Promise<Answer>;
  put(
    id: string,
    path: string,
    body: NonNullable<InternalRequest['body']>,
    headers?: InternalRequest['headers'],
  ): Promise<Answer>;
  start(id: string, deps?: { readonly acceptLoss?: boolean }): Promise<Origin>;
  stop(id: string): Promise<void>;
  /** Other upstreams after `local` (or `first`) in the document of the ring's first members. */
  upstreams(upstreams: readonly object[], first?: object): void;
  dataOf(id: string): string;
  /** Where a blob lies that an origin has. */
  fileOf(id: string, digest: Digest): string;
  /** What its admin listener answers. */
  admin(id: string, path: '/metrics' | '/readyz'): Promise<string>;
  /** Changes the members in a document: `first` is that of the ring's first members, `cluster` that of the others. */
  document(name: 'first' | 'cluster', change: (members: readonly object[]) => readonly object[]): void;
}

/** A cluster of origins in this process, on free ports. Stopped at the end of the test. */
export async function startCluster(t: Test, options: ClusterOptions): Promise<TestCluster> {
  const origins = new Map<string, Origin>();
  const dispatcher = createDispatcher();
  t.teardown(async () => {
    await Promise.all([...origins.values()].map(async (origin) => await origin.stop()));
    await dispatcher.destroy();
  });
  const dir = t.testdir();
  const ids = Array.from({ length: options.origins }, (_, index) => `o${index + 1}`);
  const ports = await freePorts(ids.length * 2);
  const key = randomBytes(32);
  writeFileSync(join(dir, 'key'), key.toString('hex'), { mode: 0o600 });
  writeFileSync(join(dir, 'password'), 'pass\n');
  const members = ids.map((id, index) => ({
    id,
    role: 'origin',
    urls: [`http://127.0.0.1:${ports[index * 2]}`],
    peers: [`127.0.0.1:${ports[index * 2 + 1]}`],
  }));
  const document = {
    version: 1,
    members,
    upstreams: [{ name: 'local', mode: 'none' }, ...(options.upstreams ?? [])],
    ...options.document,
  };
  writeFileSync(join(dir, 'cluster.yaml'), JSON.stringify(document));
  const ringIds = ids.slice(0, options.ring ?? ids.length);
  const first = { ...document, members: members.slice(0, ringIds.length) };
  writeFileSync(join(dir, 'first.yaml'), JSON.stringify(first));
  const cluster = new Cluster(loadClusterDocument(join(dir, 'cluster.yaml')));
  const client = new InternalClient({
    dispatcher,
    clusterKey: key,
    memberId: 'test',
    clock: new MemberClock(),
  });
  const start: TestCluster['start'] = async (id, deps = {}) => {
    const index = ids.indexOf(id);
    mkdirSync(join(dir, id), { recursive: true });
    const file = join(dir, `${id}.yaml`);
    const text = [
      `id: ${id}`,
      `data: ${id}`,
      'cluster-key-file: key',
      `cluster-document: ${ringIds.includes(id) ? 'first' : 'cluster'}.yaml`,
      `listen: 127.0.0.1:${ports[index * 2]}`,
      `peer-listen: ['127.0.0.1:${ports[index * 2 + 1]}']`,
      'admin-listen: 127.0.0.1:0',
      options.config ?? '',
    ].join('\n');
    writeFileSync(file, text);
    const read = loadOriginConfig(file);
    const records = { ...read.records, tombstones: options.tombstonesMs ?? read.records.tombstones };
    const origin = await createOrigin({ ...read, records }, { log: silentLogger(), ...deps });
    origins.set(id, origin);
    return origin;
  };
  const call: TestCluster['call'] = async (id, call) => {
    // One that was taken out of the ring goes on running.
    const url = members.find((one) => one.id === id)!.urls[0]!;
    const { status, headers, body } = await client.raw({ headersTimeoutMs: 30_000, ...call, url, to: id });
    return { status, headers, bytes: Buffer.from(await body.arrayBuffer()) };
  };
  for (const id of ringIds) await start(id);
  await Promise.all([...origins.values()].map(async (origin) => await origin.whenSettled()));
  return {
    ids,
    cluster,
    client,
    origins,
    start,
    dataOf: (id) => join(dir, id),
    fileOf: (id, digest) => {
      const hex = digestHex(digest);
      return join(dir, id, 'v1/blobs/sha256', hex.slice(0, 2), hex);
    },
    admin: async (id, path) => await (await fetch(`${origins.get(id)!.adminUrl}${path}`)).text(),
    document(name, change) {
      const file = join(dir, `${name}.yaml`);
      const now = JSON.parse(readFileSync(file, 'utf8')) as { members: object[] };
      writeFileSync(file, JSON.stringify({ ...now, members: change(now.members) }));
    },
    upstreams(upstreams, first) {
      const file = join(dir, 'first.yaml');
      const now = JSON.parse(readFileSync(file, 'utf8')) as { upstreams: readonly object[] };
      writeFileSync(file, JSON.stringify({ ...now, upstreams: [first ?? now.upstreams[0], ...upstreams] }));
    },
    async stop(id) {
      await origins.get(id)?.stop();
      origins.delete(id);
    },
    call,
    get: async (id, path, headers = {}) => await call(id, { method: 'GET', path, headers }),
    put: async (id, path, body, headers = {}) => await call(id, { method: 'PUT', path, body, headers }),
  };
}

/** Takes the place of a member that hangs: connections open, nothing is ever answered. */
export async function hang(t: Test, c: TestCluster, id: string): Promise<() => Promise<void>> {
  const port = Number(new URL(c.cluster.member(id).urls[0]!).port);
  const sockets = new Set<Socket>();
  await c.stop(id);
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => socket.destroy());
    socket.resume();
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  const stop = async (): Promise<void> => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  };
  t.teardown(stop);
  return stop;
}
