import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Accelerator } from '@sepia/accelerator';
import { digestOf } from '@sepia/base/digest';
import type { ConversionJob } from '@sepia/cluster/api/conversions';
import { OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import type { Test } from 'tap';
import { request } from 'undici';
import { fileImage, pushFileImage } from '../clients/file-image.ts';
import { call } from '../upstream/harbor-calls.ts';
import { startAccelerator } from './accelerator.ts';
import { Constellation } from './constellation.ts';

/** What webhooks must carry. */
export const SECRET = 'Hook 5e:cret';
const RULES = [{ name: 'lazy', from: 'local', repositories: ['team/**'], 'delete-with-source': true }];

interface Made {
  readonly digest: string;
  readonly annotations: Record<string, string>;
  readonly layers: readonly { readonly digest: string }[];
  /** Of an index. */
  readonly manifests?: readonly Made[];
  readonly platform?: Record<string, unknown>;
  readonly subject?: { readonly digest: string };
}

/** A cluster of mode none with rules for conversions, and what tests do with it. */
export interface ConversionCluster {
  readonly cluster: Constellation;
  readonly proxy: string;
  readonly dir: string;
  start(name: string, keys?: object): Promise<Accelerator>;
  push(repository: string, tag: string, content: string, more?: object): Promise<string>;
  webhook(
    type: string,
    repository: string,
    tag: string,
    authorization?: string,
    digest?: string,
  ): Promise<number>;
  jobs(): Promise<ConversionJob[]>;
  /** Its own digest is filled in. */
  manifest(repository: string, reference: string): Promise<Made | undefined>;
  /** What names this digest as its subject. */
  referrers(repository: string, digest: string): Promise<readonly Made[]>;
  /** Deletes a manifest or a tag; nobody is told. */
  remove(repository: string, reference: string): Promise<number>;
}

let stamp = 1_763_917_200;

/** Starts it; it ends with the test, its accelerators first. */
export async function conversionCluster(
  t: Test,
  conversions: readonly object[] = RULES,
): Promise<ConversionCluster> {
  const accelerators: Accelerator[] = [];
  let running: Constellation | undefined;
  // Before the folder is made, so that it is still there.
  t.teardown(async () => {
    for (const one of accelerators) await one.stop();
    await running?.stop();
  });
  const dir = t.testdir();
  const file = join(dir, 'hook');
  writeFileSync(file, `${SECRET}\n`);
  const cluster = await Constellation.start(join(dir, 'cluster'), {
    origins: 1,
    trackers: 0,
    proxies: 1,
    agents: 0,
    upstreams: [{ name: 'local', mode: 'none', hosts: ['harbor.test'] }],
    document: { conversions },
    proxy: { harbor: { webhook: { auth: 'header', 'authorization-file': file } } },
  });
  running = cluster;
  const proxy = cluster.proxyUrls[0]!;
  return {
    cluster,
    proxy,
    dir,
    start: async (name, keys = {}) => {
      const accelerator = await startAccelerator(cluster, dir, name, keys);
      accelerators.push(accelerator);
      return accelerator;
    },
    push: async (repository, tag, content, more = {}) =>
      await pushFileImage(proxy, repository, tag, fileImage(content, more)),
    webhook: async (type, repository, tag, authorization = SECRET, digest = undefined) => {
      stamp += 1;
      const event = {
        type,
        occur_at: stamp,
        event_data: {
          resources: [
            {
              tag,
              ...(digest === undefined ? {} : { digest }),
              resource_url: `harbor.test/${repository}:${tag}`,
            },
          ],
          repository: { repo_full_name: repository },
        },
      };
      return (await call('POST', `${proxy}/webhooks/harbor`, event, { authorization })).status;
    },
    jobs: async () => (await cluster.ask<{ jobs: ConversionJob[] }>(proxy, '/v1/conversions')).jobs,
    manifest: async (repository, reference) => {
      const answer = await request(`${proxy}/v2/${repository}/manifests/${reference}`, {
        headers: { accept: `${OCI_MANIFEST}, ${OCI_INDEX}` },
      });
      const text = await answer.body.text();
      if (answer.statusCode !== 200) return undefined;
      return { ...(JSON.parse(text) as Made), digest: digestOf(Buffer.from(text)) };
    },
    referrers: async (repository, digest) => {
      const answer = await request(`${proxy}/v2/${repository}/referrers/${digest}`);
      return ((await answer.body.json()) as Made).manifests ?? [];
    },
    remove: async (repository, reference) => {
      const path = `${proxy}/v2/${repository}/manifests/${reference}`;
      const answer = await request(path, { method: 'DELETE' });
      await answer.body.dump();
      return answer.statusCode;
    },
  };
}

/** True if there are jobs, and all are done. */
export function areDone(jobs: readonly ConversionJob[]): boolean {
  return jobs.length > 0 && jobs.every((job) => job.state === 'done');
}
