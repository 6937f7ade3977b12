import { parseRepositoryName } from '@sepia/base/names/repository';
import { makeImage } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import {
  clientOf,
  failure,
  reference,
  REPOSITORY as repository,
  soon,
  startUpstream,
} from './client-fixture.ts';

const IMAGE = makeImage({ layers: [1000], seed: 'harbor' });
const V1 = { repository, reference: reference('v1') };

t.test('a project that is missing is 401 with an empty challenge: denied, without a loop', async (t) => {
  const upstream = await startUpstream(t);
  upstream.misbehave({ does: { type: 'status', status: 401, headers: { 'www-authenticate': '' } } });
  const client = clientOf(t, upstream.url, { credentials: { username: 'robot', password: 'x' } });
  await failure(client.getManifest(V1, soon()), 'UPSTREAM_DENIED');
  t.ok(upstream.log.length <= 2, String(upstream.log.length));
});

t.test(
  'a Docker Hub project answers 301 to the library: followed, with the token of that repository',
  async (t) => {
    const upstream = await startUpstream(t, { auth: { type: 'token', anonymous: true, harborQuirk: true } });
    const there = parseRepositoryName('hub/library/busybox');
    upstream.push(there, IMAGE, 'v1');
    const here = parseRepositoryName('hub/busybox');
    upstream.misbehave({
      kind: 'manifest',
      path: '/v2/hub/busybox/',
      does: { type: 'redirect', status: 301, to: `${upstream.url}/v2/${there}/manifests/v1` },
    });
    const { digest } = await clientOf(t, upstream.url).getManifest({ ...V1, repository: here }, soon());
    t.equal(digest, IMAGE.manifest.digest);
    const scopes = upstream.requests('token').flatMap(({ query }) => query.getAll('scope'));
    t.ok(scopes.includes(`repository:${there}:pull`), scopes.join());
  },
);

t.test('the first manifest by tag of a proxy project has no digest header: its body is hashed', async (t) => {
  const upstream = await startUpstream(t);
  upstream.push(repository, IMAGE, 'v1');
  upstream.misbehave({ kind: 'manifest', does: { type: 'no-digest' } });
  const client = clientOf(t, upstream.url);
  t.equal((await client.getManifest(V1, soon())).digest, IMAGE.manifest.digest);
  t.equal((await client.headManifest(V1, soon())).digest, IMAGE.manifest.digest);
});
