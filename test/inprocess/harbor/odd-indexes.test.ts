import { digestOf } from '@sepia/base/digest';
import { DOCKER_MANIFEST, OCI_INDEX } from '@sepia/oci/manifest';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { FakeUpstream, makeImage } from '@sepia/test-support/upstream/fake-upstream';
import { jobBody, runJob } from '@sepia/test-support/upstream/harbor-calls';
import t from 'tap';

t.test('an index is walked whatever type it is served under, and whatever types it names', async (t) => {
  const harbor = await FakeUpstream.start();
  t.teardown(() => harbor.stop());
  await using cluster = await Constellation.start(t.testdir(), {
    agents: 1,
    trackers: 1,
    upstreams: [{ name: 'harbor', url: harbor.url, mode: 'pull-through', hosts: ['harbor.test'] }],
    proxy: { harbor: { 'driver-auth': { mode: 'none' } } },
  });
  const image = makeImage({ layers: [300 * 1024], seed: 'odd' });
  harbor.push('library/app', image);
  const part = Buffer.alloc(400 * 1024, 'part');
  const manifests = [
    {
      mediaType: 'application/vnd.example.part',
      digest: harbor.addBlob('library/app', part),
      size: part.length,
    },
    { digest: image.manifest.digest, size: image.manifest.bytes.length },
  ];
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }));
  harbor.addManifest('library/app', { digest: digestOf(bytes), mediaType: DOCKER_MANIFEST, bytes }, 'odd');
  // What of a mirror only some platforms were pulled through: an index that names images by no type.
  const absent = { digest: digestOf(Buffer.from('never pulled')), size: 500 };
  const pushIndex = (tag: string, children: readonly object[]): void => {
    const text = JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: children });
    const one = { digest: digestOf(Buffer.from(text)), mediaType: OCI_INDEX, bytes: Buffer.from(text) };
    harbor.addManifest('library/app', one, tag);
  };
  pushIndex('partial', [absent, manifests[1]!]);
  pushIndex('none', [absent]);
  const jobOf = async (tag: string) =>
    await runJob(() => cluster.proxyUrls[0]!, jobBody('harbor.test', 'library/app', tag, 'single_seed_peer'));
  t.match(await jobOf('partial'), { state: 'SUCCESS' });
  t.match(await jobOf('none'), { state: 'FAILURE', error: /none of the images/ });
  const body = jobBody('harbor.test', 'library/app', 'odd', 'all_peers');
  const job = await runJob(() => cluster.proxyUrls[0]!, body);
  t.equal(job.state, 'SUCCESS', job.error);
  for (const digest of [digestOf(part), ...image.blobs.keys()]) {
    const fetched = harbor.requests('blob', 'GET').filter(({ path }) => path.endsWith(digest));
    t.equal(fetched.length, 1, digest);
  }
});
