import { makeImage } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import { isDeniedElsewhere } from '../src/failure.ts';
import {
  clientOf,
  failure,
  readAll,
  reference,
  REPOSITORY as repository,
  soon,
  startUpstream,
} from './client-fixture.ts';

const IMAGE = makeImage({ layers: [3000], seed: 'elsewhere' });
const USER = { username: 'robot', password: 's:e cret' };
const V1 = { repository, reference: reference('v1') };
const digest = IMAGE.layers[0]!;
const THERE = 'someone/app';

/** A gateway that leads to another registry, as `lscr.io` does to `ghcr.io`, and that registry. */
async function startGateway(t: Parameters<typeof startUpstream>[0], auth: 'anonymous' | 'account') {
  const gateway = await startUpstream(t, { auth: { type: 'basic', ...USER } });
  const registry = await startUpstream(t, {
    auth: auth === 'anonymous' ? { type: 'token' } : { type: 'token', ...USER },
  });
  registry.push(THERE, IMAGE, 'v1');
  const lead = (kind: 'manifest' | 'blob', item: string) =>
    gateway.misbehave({
      kind,
      does: { type: 'redirect', to: `${registry.url}/v2/${THERE}/${kind}s/${item}` },
    });
  return { gateway, registry, lead };
}

t.test('a registry that another leads to is asked in nobody’s name, with one token for all', async (t) => {
  const { gateway, registry, lead } = await startGateway(t, 'anonymous');
  const client = clientOf(t, gateway.url, { credentials: USER });
  lead('manifest', 'v1');
  lead('blob', digest);
  t.equal((await client.getManifest(V1, soon())).digest, IMAGE.manifest.digest);
  for (const range of [undefined, { start: 0, end: 9 }, { start: 10 }]) {
    const { body } = await client.getBlob({ repository, digest, range }, soon());
    t.equal((await readAll(body)).length, range === undefined ? 3000 : range.end === 9 ? 10 : 2990);
  }
  const asked = registry.requests('token');
  t.same(
    asked.map((entry) => [entry.authorization, entry.query.get('scope')]),
    [[undefined, `repository:${THERE}:pull`]],
    'one token, of nobody, for the repository there',
  );
  t.same(
    registry.requests('blob').map((entry) => entry.status),
    [200, 206, 206],
    'from then on at once',
  );
  t.notOk(registry.log.some((entry) => entry.authorization?.startsWith('Basic ')));
});

t.test('one that lets nobody in is an upstream that fails, and sees no password', async (t) => {
  const { gateway, registry, lead } = await startGateway(t, 'account');
  const client = clientOf(t, gateway.url, { credentials: USER });
  lead('manifest', 'v1');
  const error = await failure(client.getManifest(V1, soon()), 'BACKEND_DOWN');
  t.match(error.message, /lets nobody in without an account/);
  t.ok(isDeniedElsewhere(error));
  t.notOk(registry.log.some((entry) => entry.authorization !== undefined));
});

t.test('what such a registry has not is not there; what storage has not says nothing', async (t) => {
  const { gateway, registry, lead } = await startGateway(t, 'anonymous');
  const client = clientOf(t, gateway.url, { credentials: USER });
  lead('manifest', 'v2');
  const gone = { repository, reference: reference('v2') };
  await failure(client.getManifest(gone, soon()), 'MANIFEST_UNKNOWN');
  gateway.behave();
  gateway.misbehave({ kind: 'manifest', does: { type: 'redirect', to: `${registry.storeUrl}/nothing` } });
  const storage = await failure(client.getManifest(gone, soon()), 'BACKEND_DOWN');
  t.notOk(isDeniedElsewhere(storage));
});

t.test('one that refuses the item says so, another than its storage', async (t) => {
  const { gateway, registry, lead } = await startGateway(t, 'anonymous');
  const client = clientOf(t, gateway.url, { credentials: USER });
  lead('manifest', 'v1');
  registry.misbehave({ kind: 'manifest', does: { type: 'status', status: 403 } });
  t.ok(isDeniedElsewhere(await failure(client.getManifest(V1, soon()), 'BACKEND_DOWN')));
  registry.behave();
  registry.misbehave({ kind: 'manifest', does: { type: 'status', status: 500 } });
  t.notOk(isDeniedElsewhere(await failure(client.getManifest(V1, soon()), 'BACKEND_DOWN')));
});
