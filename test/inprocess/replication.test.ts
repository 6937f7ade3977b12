import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Digest } from '@sepia/base/digest';
import { OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import { call, pushBlob, pushManifest } from '@sepia/test-support/clients/registry-calls';
import {
  getChecked,
  pullUntilGiven,
  pushUntilTaken,
  randomImage,
} from '@sepia/test-support/clients/registry-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { until } from '@sepia/test-support/until';
import t, { type Test } from 'tap';

const RETRY = { first: '50ms', max: '300ms' };

/** Two clusters: what is pushed to the first goes to a proxy of the second, once by a rule that deletes and once not. */
class TwoClusters {
  readonly source: Constellation;
  readonly target: Constellation;
  #turn = 0;

  private constructor(source: Constellation, target: Constellation) {
    this.source = source;
    this.target = target;
  }

  static async start(t: Test): Promise<TwoClusters> {
    const dir = t.testdir();
    const target = await Constellation.start(join(dir, 'target'), { proxies: 3, agents: 1, trackers: 1 });
    const to = { url: target.proxyUrls[0]! };
    const rule = { from: 'local', to, retry: RETRY };
    try {
      const source = await Constellation.start(join(dir, 'source'), {
        origins: 7,
        proxies: 3,
        agents: 0,
        trackers: 1,
        document: {
          replication: [
            {
              ...rule,
              name: 'mirror',
              repositories: ['team/**'],
              rewrite: { 'add-prefix': 'eu' },
              delete: true,
            },
            { ...rule, name: 'archive', repositories: ['keep/**'], delete: false },
          ],
        },
      });
      return new TwoClusters(source, target);
    } catch (error) {
      await target.stop();
      throw error;
    }
  }

  /** Each call goes to the next proxy of the source. */
  readonly proxy = (): string => this.source.proxyUrls[this.#turn++ % this.source.proxyUrls.length]!;

  /** Where a client of the second cluster may ask. */
  get readers(): string[] {
    return [...this.target.proxyUrls, ...this.target.agents.map(({ url }) => url)];
  }

  /** Digest of a manifest at the last proxy of the target, which is not the one that replication pushes to. */
  async there(repository: string, reference: string): Promise<string | undefined> {
    const head = await call(
      'HEAD',
      `${this.target.proxyUrls.at(-1)}/v2/${repository}/manifests/${reference}`,
    );
    return head.status === 200 ? String(head.headers['docker-content-digest']) : undefined;
  }

  /** The target acknowledged everything: a manifest is readable there before its push has ended. */
  async allDone(): Promise<void> {
    await until(async () => {
      const asked = this.source.originUrls.map((url) =>
        this.source.ask<{ jobs: readonly unknown[] }>(url, '/v1/replication'),
      );
      return (await Promise.all(asked)).every(({ jobs }) => jobs.length === 0);
    }, 'every job is done');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.source.stop();
    await this.target.stop();
  }
}

/** An image of one layer by digest; its descriptor. */
async function imageOf(
  url: string,
  repository: string,
  more: object = {},
): Promise<{ mediaType: string; digest: Digest; size: number; layer: Digest }> {
  const [config, bytes] = [Buffer.from(`{"nonce":"${randomBytes(8).toString('hex')}"}`), randomBytes(70_000)];
  const layer = await pushBlob(url, repository, bytes);
  const fields = {
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: {
      mediaType: 'application/vnd.oci.image.config.v1+json',
      digest: await pushBlob(url, repository, config),
      size: config.length,
    },
    layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: layer, size: bytes.length }],
    ...more,
  };
  const digest = await pushManifest(url, repository, fields);
  return { mediaType: OCI_MANIFEST, digest, size: JSON.stringify(fields).length, layer };
}

t.test('an index and its signature are readable everywhere in a second cluster', async (t) => {
  await using here = await TwoClusters.start(t);
  const children = [await imageOf(here.proxy(), 'team/app'), await imageOf(here.proxy(), 'team/app')];
  const index = {
    schemaVersion: 2,
    mediaType: OCI_INDEX,
    manifests: children.map(({ layer: _layer, ...descriptor }, at) => ({
      ...descriptor,
      platform: { os: 'linux', architecture: at === 0 ? 'amd64' : 'arm64' },
    })),
  };
  const digest = await pushManifest(here.proxy(), 'team/app', index, 'v1');
  await until(async () => (await here.there('eu/team/app', 'v1')) === digest, 'the tag is there');
  const subject = { mediaType: OCI_INDEX, digest, size: JSON.stringify(index).length };
  const artifactType = 'application/vnd.example.signature';
  const signature = await imageOf(here.proxy(), 'team/app', { subject, artifactType });
  await until(async () => (await here.there('eu/team/app', signature.digest)) !== undefined, 'the signature');
  await here.allDone();

  for (const url of here.readers) {
    const base = `${url}/v2/eu/team/app`;
    const { tags } = (await call('GET', `${base}/tags/list`)).json<{ tags: string[] }>();
    t.same(tags, ['v1'], `tags at ${url}`);
    const head = await call('HEAD', `${base}/manifests/v1`);
    t.equal(head.headers['docker-content-digest'], digest);
    for (const one of [...children, signature]) {
      await getChecked(`${base}/manifests/${one.digest}`, one.digest);
      await getChecked(`${base}/blobs/${one.layer}`, one.layer);
    }
    const referrers = await call('GET', `${base}/referrers/${digest}`);
    t.match(
      referrers.json(),
      { manifests: [{ digest: signature.digest, artifactType }] },
      `referrers at ${url}`,
    );
  }
});

t.test('a tag that is deleted here is deleted there, if its rule says so', async (t) => {
  await using here = await TwoClusters.start(t);
  const [first, second] = [randomImage([3_000]), randomImage([2_000])];
  for (const repository of ['team/app', 'keep/app']) {
    await pushUntilTaken(here.proxy, repository, 'v1', first);
    await pushUntilTaken(here.proxy, repository, 'v2', first);
  }
  for (const repository of ['eu/team/app', 'keep/app'])
    for (const tag of ['v1', 'v2'])
      await until(async () => (await here.there(repository, tag)) !== undefined, `${repository}:${tag}`);
  for (const url of here.readers) await pullUntilGiven(url, 'eu/team/app', 'v1');

  for (const repository of ['keep/app', 'team/app'])
    t.equal((await call('DELETE', `${here.proxy()}/v2/${repository}/manifests/v1`)).status, 202);
  await until(async () => (await here.there('eu/team/app', 'v1')) === undefined, 'the deletion is there');
  await here.allDone();
  for (const url of here.readers) {
    t.equal((await call('GET', `${url}/v2/eu/team/app/manifests/v1`)).code, 'MANIFEST_UNKNOWN', url);
    await pullUntilGiven(url, 'eu/team/app', 'v2');
  }
  // What came after the deletion is there, so it was passed over and is not just late.
  await pushUntilTaken(here.proxy, 'keep/app', 'v3', second);
  await until(async () => (await here.there('keep/app', 'v3')) === second.manifestDigest, 'a later push');
  t.equal(await here.there('keep/app', 'v1'), first.manifestDigest, 'the archive keeps it');

  await pushUntilTaken(here.proxy, 'team/app', 'v1', second);
  await until(
    async () => (await here.there('eu/team/app', 'v1')) === second.manifestDigest,
    'pushed again after the deletion',
  );
});
