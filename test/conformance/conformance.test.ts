import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { type Digest, digestOf } from '@sepia/base/digest';
import { OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import { call, pushBlob, pushManifest } from '@sepia/test-support/clients/registry-calls';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { FakeUpstream } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import { ShufflingFront } from './support/shuffling-front.ts';
import { Suites, type Verdict } from './support/suites.ts';

/** Checks that may be skipped, with the reason (docs/registry.md, "Limits"); nothing may fail. */
const ALLOWED_SKIPS: readonly [pattern: RegExp, reason: string][] = [
  [/range 500-0/, 'a range that ends before it begins is not valid and is ignored (RFC 9110, 14.1.1)'],
  [/mount anonymous/, 'a digest that was learned elsewhere opens nothing: a mount needs its `from`'],
];
const ALL = {
  OCI_TEST_PULL: '1',
  OCI_TEST_PUSH: '1',
  OCI_TEST_CONTENT_DISCOVERY: '1',
  OCI_TEST_CONTENT_MANAGEMENT: '1',
};
const rows: string[][] = [['suite', 'endpoint', 'passed', 'failed', 'skipped']];

t.teardown(() => {
  const widths = rows[0]!.map((_, at) => Math.max(...rows.map((row) => row[at]!.length)));
  const lines = rows.map((row) => row.map((cell, at) => cell.padEnd(widths[at]!)).join('  '));
  process.stderr.write(`\n${lines.join('\n')}\n\n`);
});

t.test('OCI distribution 1.1, as the official suites check it', async (t) => {
  const dir = t.testdir();
  const suites = await Suites.build(dir);
  const upstream = await FakeUpstream.start();
  t.teardown(() => upstream.stop());
  await using cluster = await Constellation.start(join(dir, 'cluster'), {
    origins: 7,
    proxies: 3,
    agents: 1,
    upstreams: [
      { name: 'local', mode: 'none' },
      { name: 'hub', mode: 'pull-through', url: upstream.url },
    ],
  });
  await using front = await ShufflingFront.start(cluster.proxyUrls);
  const endpoints = { 'one proxy': cluster.proxyUrls[0]!, 'three proxies, shuffled': front.url };

  for (const [endpoint, url] of Object.entries(endpoints)) {
    await t.test(`four workflow categories at ${endpoint}`, async (t) => {
      const repositories = { OCI_NAMESPACE: fresh('old'), OCI_CROSSMOUNT_NAMESPACE: fresh('old') };
      const verdict = await suites.workflows(fresh('run'), url, { ...ALL, ...repositories });
      note(['workflows', endpoint], verdict);
      t.same(verdict.failures, [], verdict.failed === 0 ? '' : verdict.output.slice(-20_000));
      t.equal(verdict.failed, 0);
      t.ok(verdict.passed >= 70, `${verdict.passed} checks`);
    });
    for (const version of ['1.1', 'dev']) {
      await t.test(`program, level ${version}, at ${endpoint}`, async (t) => {
        const repositories = { OCI_REPO1: fresh('new'), OCI_REPO2: fresh('new') };
        const verdict = await suites.program(fresh('run'), url, { OCI_VERSION: version, ...repositories });
        note([`program ${version}`, endpoint], verdict);
        t.same(verdict.failures, []);
        t.equal(verdict.failed, 0);
        t.ok(verdict.passed >= 800, `${verdict.passed} checks`);
        const unexpected = verdict.skips.filter(
          (skip) => !ALLOWED_SKIPS.some(([allowed]) => allowed.test(skip)),
        );
        t.same(unexpected, []);
      });
    }
  }

  const repository = 'preloaded/app';
  const content = await preload(cluster.proxyUrls[1]!, repository);
  const agent = cluster.agents[0]!.url;

  await t.test('Pull at an agent', async (t) => {
    const verdict = await suites.workflows(fresh('run'), agent, {
      OCI_NAMESPACE: repository,
      OCI_TEST_PULL: '1',
      OCI_MANIFEST_DIGEST: content.image,
      OCI_TAG_NAME: 'v1',
      OCI_BLOB_DIGEST: content.blobs[0]!,
    });
    note(['workflows, Pull', 'an agent'], verdict);
    t.same(verdict.failures, []);
    t.equal(verdict.failed, 0);
    t.ok(verdict.passed >= 10, `${verdict.passed} checks`);
  });
  await t.test('program, read-only, at an agent', async (t) => {
    const verdict = await suites.program(fresh('run'), agent, {
      ...READ_ONLY,
      OCI_REPO1: repository,
      OCI_REPO2: repository,
      OCI_RO_DATA_TAGS: 'v1 latest',
      OCI_RO_DATA_MANIFESTS: content.manifests.join(' '),
      OCI_RO_DATA_BLOBS: content.blobs.join(' '),
      OCI_RO_DATA_REFERRERS: content.image,
    });
    note(['program, read-only', 'an agent'], verdict);
    t.same(verdict.failures, []);
    t.equal(verdict.failed, 0);
    t.ok(verdict.passed >= 20, `${verdict.passed} checks`);
  });
});

/** Level 1.1: at `dev` the program always misses the digest header of content that it did not push itself. */
const READ_ONLY = {
  OCI_VERSION: '1.1',
  OCI_API_PUSH: 'false',
  OCI_API_TAGS_DELETE: 'false',
  OCI_API_MANIFESTS_DELETE: 'false',
  OCI_API_BLOBS_DELETE: 'false',
  OCI_API_REFERRER: 'true',
};

/** An image, an index, sha512 content and a referrer, pushed at a proxy. */
async function preload(
  url: string,
  repository: string,
): Promise<{ image: Digest; manifests: readonly Digest[]; blobs: readonly Digest[] }> {
  const config = Buffer.from(`{"os":"linux","architecture":"amd64","nonce":"${fresh('x')}"}`);
  const layer = randomBytes(700_000);
  const strong = randomBytes(3_000);
  const strongDigest = digestOf(strong, 'sha512');
  await pushBlob(url, repository, config);
  await pushBlob(url, repository, layer);
  const pushed = await call('POST', `${url}/v2/${repository}/blobs/uploads/?digest=${strongDigest}`, {
    body: strong,
  });
  if (pushed.status !== 201) throw new Error(`sha512 blob: ${pushed.status}`);
  const entry = (mediaType: string, digest: Digest, size: number): object => ({ mediaType, digest, size });
  const configEntry = entry('application/vnd.oci.image.config.v1+json', digestOf(config), config.length);
  const layers = [
    entry('application/vnd.oci.image.layer.v1.tar', digestOf(layer), layer.length),
    entry('application/vnd.oci.image.layer.v1.tar', strongDigest, strong.length),
  ];
  const fields = { schemaVersion: 2, mediaType: OCI_MANIFEST, config: configEntry, layers };
  const image = await pushManifest(url, repository, fields, 'v1');
  const size = JSON.stringify(fields).length;
  const index = await pushManifest(
    url,
    repository,
    { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [entry(OCI_MANIFEST, image, size)] },
    'latest',
  );
  const subject = entry(OCI_MANIFEST, image, size);
  const signature = await pushManifest(url, repository, {
    ...fields,
    artifactType: 'application/vnd.test.signature',
    subject,
  });
  const strongManifest = Buffer.from(JSON.stringify({ ...fields, annotations: { strong: 'yes' } }));
  const strongManifestDigest = digestOf(strongManifest, 'sha512');
  const put = await call('PUT', `${url}/v2/${repository}/manifests/${strongManifestDigest}`, {
    body: strongManifest,
    headers: { 'content-type': OCI_MANIFEST },
  });
  if (put.status !== 201) throw new Error(`sha512 manifest: ${put.status}`);
  return {
    image,
    manifests: [image, index, signature, strongManifestDigest],
    blobs: [digestOf(config), digestOf(layer), strongDigest],
  };
}

function note(names: readonly [string, string], { passed, failed, skipped }: Verdict): void {
  rows.push([...names, String(passed), String(failed), String(skipped)]);
}

function fresh(prefix: string): string {
  return `${prefix}-${randomBytes(5).toString('hex')}`;
}
