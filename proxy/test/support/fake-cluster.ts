import { randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { checkConfig } from '@sepia/base/config/load';
import { silentLogger } from '@sepia/base/log';
import { Cluster } from '@sepia/cluster/cluster';
import { parseClusterDocument } from '@sepia/cluster/load-document';
import type { Test } from 'tap';
import type { z } from 'zod';
import { createProxy, PROXY_CONFIG, type ProxyConfig, type RunningProxy } from '../../src/index.ts';
import { FakeOrigin, type FakeRecords, newRecords } from './fake-origin.ts';

export interface FakeCluster {
  readonly origins: readonly FakeOrigin[];
  readonly proxies: readonly RunningProxy[];
  readonly records: FakeRecords;
  readonly cluster: Cluster;
  readonly key: Uint8Array;
  origin(id: string): FakeOrigin;
}

interface ClusterOptions {
  readonly origins?: number;
  readonly proxies?: number;
  /** More keys of the proxies' config. */
  readonly config?: Readonly<Record<string, unknown>>;
}

/** Fake origins with real proxies before them, ended with the test. Upstreams: `local` (none), `hub` (pull-through). */
export async function startCluster(t: Test, options: ClusterOptions = {}): Promise<FakeCluster> {
  const folder = t.testdir();
  const key = randomBytes(32);
  const records = newRecords();
  const keyFile = join(folder, 'key');
  const documentFile = join(folder, 'cluster.yaml');
  writeFileSync(keyFile, key.toString('hex'), { mode: 0o600 });
  const origins = Array.from(
    { length: options.origins ?? 3 },
    (_, index) => new FakeOrigin(`origin-${index + 1}`, key, records),
  );
  for (const origin of origins) {
    await origin.start();
    t.teardown(() => origin.stop());
  }
  const proxyIds = Array.from({ length: options.proxies ?? 1 }, (_, index) => `proxy-${index + 1}`);
  const text = JSON.stringify({
    version: 7,
    members: [
      ...origins.map(({ id, url }) => ({ id, role: 'origin', urls: [url] })),
      ...proxyIds.map((id, at) => ({ id, role: 'proxy', urls: [`http://127.0.0.1:${at + 9}`] })),
    ],
    upstreams: [
      { name: 'local', mode: 'none' },
      {
        name: 'hub',
        mode: 'pull-through',
        url: 'http://127.0.0.1:1',
        hosts: ['docker.io'],
        access: 'cluster',
      },
    ],
  });
  writeFileSync(documentFile, text);
  const cluster = new Cluster(parseClusterDocument(text, 'test'));
  const byId = new Map(origins.map((origin) => [origin.id, origin]));
  for (const origin of origins) origin.join(cluster, byId);
  const proxies: RunningProxy[] = [];
  for (const id of proxyIds) {
    const config = checkConfig(
      JSON.stringify({
        id,
        data: folder,
        'cluster-key-file': keyFile,
        'cluster-document': documentFile,
        'admin-listen': '127.0.0.1:0',
        listeners: [{ listen: '127.0.0.1:0' }, { listen: '127.0.0.1:0', 'default-upstream': 'hub' }],
        limits: { drain: '200ms' },
        ...options.config,
      }),
      'test',
      PROXY_CONFIG as unknown as z.ZodType<ProxyConfig>,
    );
    const proxy = await createProxy(config, { log: silentLogger() });
    t.teardown(() => proxy.stop());
    proxies.push(proxy);
  }
  return { origins, proxies, records, cluster, key, origin: (id) => byId.get(id)! };
}
