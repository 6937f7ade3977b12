import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { digestOf } from '@sepia/base/digest';
import type { ConversionJob } from '@sepia/cluster/api/conversions';
import type { LayerBinding } from '@sepia/cluster/api/layer-binding';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import type { Test } from 'tap';
import { fileImage } from '../clients/file-image.ts';
import { call, pushBlobInTwo, pushManifest } from '../clients/registry-calls.ts';
import { seededBytes } from '../upstream/fake-upstream-image.ts';
import { startAccelerator } from './accelerator.ts';
import { Constellation } from './constellation.ts';

const SECRET = 'to the letter';

interface Listed {
  readonly artifactType?: string;
  readonly digest: string;
}

/** Clusters before one registry, each with indexes of its own. */
export class IndexingClusters {
  readonly #parts: { stop(): Promise<void> }[] = [];
  readonly #dir: string;

  /** They end with the test. */
  constructor(t: Test) {
    // Before the folder is made, so that it is still there.
    t.teardown(async () => {
      for (const one of this.#parts.reverse()) await one.stop();
    });
    this.#dir = t.testdir();
  }

  /** `rule`: further keys of its rule. */
  async start(name: string, registry: string, rule: object = {}): Promise<IndexingCluster> {
    return await IndexingCluster.start(
      { dir: join(this.#dir, name), registry, rule },
      (part) => void this.#parts.push(part),
    );
  }
}

/** A cluster before a registry, whose accelerator makes indexes of all images there. */
class IndexingCluster {
  readonly #cluster: Constellation;
  readonly #api: string;
  readonly #host: string;

  private constructor(cluster: Constellation, api: string, host: string) {
    this.#cluster = cluster;
    this.#api = api;
    this.#host = host;
  }

  /** `started` is told of each part that has to be stopped, the last first. */
  static async start(
    { dir, registry, rule }: { readonly dir: string; readonly registry: string; readonly rule: object },
    started: (part: { stop(): Promise<void> }) => void,
  ): Promise<IndexingCluster> {
    mkdirSync(dir, { recursive: true });
    const file = join(dir, 'authorization');
    writeFileSync(file, SECRET);
    const index = { name: 'index', from: 'up', repositories: ['**'], to: 'index', 'min-size': 1 };
    const cluster = await Constellation.start(join(dir, 'cluster'), {
      ...{ origins: 1, trackers: 0, proxies: 1, agents: 0 },
      upstreams: [{ name: 'up', url: registry, mode: 'pull-through' }],
      document: { conversions: [{ ...index, ...rule }] },
    });
    started(cluster);
    const accelerator = await startAccelerator(cluster, dir, 'accelerator-1', {
      api: { 'authorization-file': file },
    });
    started(accelerator);
    return new IndexingCluster(cluster, accelerator.url, new URL(registry).host);
  }

  /** Has an image indexed, and waits for it. @returns what became of the job */
  async index(repository: string, tag: string): Promise<ConversionJob> {
    const resources = [{ resource_url: `${this.#host}/${repository}:${tag}` }];
    const body = Buffer.from(JSON.stringify({ type: 'PUSH_ARTIFACT', event_data: { resources } }));
    const headers = { authorization: SECRET, 'content-type': 'application/json' };
    const answer = await call('POST', `${this.#api}/api/v1/conversions?sync=true`, { body, headers });
    if (answer.status !== 200) throw new Error(`${answer.status} ${answer.bytes}`);
    const { jobs } = await this.#cluster.ask<{ jobs: ConversionJob[] }>(this.#proxy, '/v1/conversions');
    const job = jobs.find(({ payload }) => payload.repository === repository && payload.tag === tag);
    if (job === undefined) throw new Error('no such job');
    return job;
  }

  /** What is on record of a layer. */
  async binding(repository: string, layer: string): Promise<LayerBinding | undefined> {
    const path = `/v1/layers/${layer}?upstream=up&repository=${encodeURIComponent(repository)}`;
    return (await this.#cluster.ask<{ binding?: LayerBinding }>(this.#proxy, path)).binding;
  }

  /** What the cluster says is attached to a manifest. */
  async referrers(repository: string, digest: string): Promise<readonly Listed[]> {
    const answer = await call('GET', `${this.#proxy}/v2/${repository}/referrers/${digest}`);
    return answer.json<{ manifests: Listed[] }>().manifests;
  }

  get #proxy(): string {
    return this.#cluster.proxyUrls[0]!;
  }
}

/** Pushes an image whose layer has spans that need what was before them. @returns digests of its manifest and its layer */
export async function pushTextImage(
  registry: string,
  repository: string,
  tag: string,
): Promise<{ readonly image: string; readonly layer: string }> {
  const text = seededBytes(3_000_000, `${repository}:${tag}`).toString('base64');
  const { blobs, manifest } = fileImage(text, { mediaType: OCI_MANIFEST });
  for (const bytes of blobs) await pushBlobInTwo(registry, repository, bytes);
  return { image: await pushManifest(registry, repository, manifest, tag), layer: digestOf(blobs[0]!) };
}
