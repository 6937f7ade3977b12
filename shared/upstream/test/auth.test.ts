import { until } from '@sepia/test-support/until';
import { makeImage, seededBytes } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import { isOfWhoAsks } from '../src/failure.ts';
import {
  clientOf,
  failure,
  readAll,
  reference,
  REPOSITORY as repository,
  soon,
  startUpstream,
} from './client-fixture.ts';

const IMAGE = makeImage({ layers: [1000, 2000], seed: 'auth' });
const USER = { username: 'robot$p2p', password: 's:e cret' };
const V1 = { repository, reference: reference('v1') };

t.test('basic: learned from the first 401, then sent at once', async (t) => {
  const upstream = await startUpstream(t, { auth: { type: 'basic', ...USER } });
  upstream.push(repository, IMAGE, 'v1');
  const client = clientOf(t, upstream.url, { credentials: USER });
  await client.getManifest(V1, soon());
  await client.getManifest(V1, soon());
  t.same(
    upstream.log.map((entry) => entry.status),
    [401, 200, 200],
  );
});

t.test('basic: wrong or missing credentials are denied, without a loop', async (t) => {
  const upstream = await startUpstream(t, { auth: { type: 'basic', ...USER } });
  upstream.push(repository, IMAGE, 'v1');
  for (const credentials of [undefined, { username: 'robot$p2p', password: 'wrong' }]) {
    upstream.log.length = 0;
    const client = clientOf(t, upstream.url, credentials === undefined ? {} : { credentials });
    const error = await failure(client.getManifest(V1, soon()), 'UPSTREAM_DENIED');
    t.match(error.detail, { upstream: 'fake', repository, status: 401, upstreamCode: 'UNAUTHORIZED' });
    t.equal(upstream.log.length, credentials === undefined ? 1 : 2);
    t.notMatch(JSON.stringify(error.detail) + error.message, /wrong|Basic /, 'no secret in the error');
  }
});

t.test('token: anonymous, one token for many requests of a repository', async (t) => {
  const upstream = await startUpstream(t, { auth: { type: 'token' } });
  upstream.push(repository, IMAGE, 'v1');
  const client = clientOf(t, upstream.url);
  await client.getManifest(V1, soon());
  await Promise.all(IMAGE.layers.map((digest) => client.headBlob({ repository, digest }, soon())));
  t.same(
    upstream.requests('manifest').map((entry) => entry.status),
    [401, 200],
  );
  t.same(
    upstream.requests('blob').map((entry) => entry.status),
    [200, 200],
  );
  const [asked, ...more] = upstream.requests('token');
  t.equal(more.length, 0);
  t.equal(asked?.authorization, undefined);
  t.same(
    [asked?.query.get('service'), asked?.query.get('scope'), asked?.query.get('account')],
    ['fake,registry', `repository:${repository}:pull`, null],
  );
});

t.test('token: a user asks with Basic at the realm, and only there', async (t) => {
  const upstream = await startUpstream(t, { auth: { type: 'token', ...USER } });
  upstream.push(repository, IMAGE, 'v1');
  await clientOf(t, upstream.url, { credentials: USER }).getManifest(V1, soon());
  const [asked] = upstream.requests('token');
  t.match(asked?.authorization, /^Basic /);
  t.equal(asked?.query.get('account'), USER.username);
  t.notOk(
    upstream.requests('manifest').some((entry) => entry.authorization?.startsWith('Basic ')),
    'no password to the registry',
  );
  await failure(clientOf(t, upstream.url).getManifest(V1, soon()), 'UPSTREAM_DENIED');
});

t.test('token: many at once fetch one', async (t) => {
  const upstream = await startUpstream(t, { auth: { type: 'token' } });
  upstream.push(repository, IMAGE, 'v1');
  upstream.misbehave({ kind: 'token', does: { type: 'delay', ms: 50 } });
  const client = clientOf(t, upstream.url);
  await Promise.all(Array.from({ length: 8 }, () => client.getManifest(V1, soon())));
  t.equal(upstream.requests('token').length, 1);
});

t.test('token: renewed before it expires', async (t) => {
  const upstream = await startUpstream(t, { auth: { type: 'token', expiresInSeconds: 100 } });
  upstream.push(repository, IMAGE, 'v1');
  let nowMs = 1_000_000;
  const client = clientOf(t, upstream.url, { nowMs: () => nowMs });
  await client.getManifest(V1, soon());
  nowMs += 79_000;
  await client.getManifest(V1, soon());
  t.equal(upstream.requests('token').length, 1);
  nowMs += 2_000;
  await client.getManifest(V1, soon());
  t.equal(upstream.requests('token').length, 2);
  t.same(
    upstream.requests('manifest').map((entry) => entry.status),
    [401, 200, 200, 200],
  );
});

for (const harborQuirk of [false, true]) {
  t.test(
    `token: a refused one is replaced once${harborQuirk ? ', also when the challenge says Basic' : ''}`,
    async (t) => {
      const upstream = await startUpstream(t, { auth: { type: 'token', ...USER, harborQuirk } });
      upstream.push(repository, IMAGE, 'v1');
      const client = clientOf(t, upstream.url, { credentials: USER });
      await client.getManifest(V1, soon());
      upstream.revokeTokens();
      await client.getManifest(V1, soon());
      t.same(
        upstream.requests('manifest').map((entry) => entry.status),
        [401, 200, 401, 200],
      );
      t.equal(upstream.requests('token').length, 2);
    },
  );
}

t.test('token: the scope of the challenge is what is asked for, from then on at once', async (t) => {
  const scope = 'repository:mirror/library/app:pull';
  const upstream = await startUpstream(t, { auth: { type: 'token', scope } });
  upstream.push(repository, IMAGE, 'v1');
  let nowMs = 0;
  const client = clientOf(t, upstream.url, { nowMs: () => nowMs });
  await client.getManifest(V1, soon());
  nowMs += 3_600_000;
  await client.getManifest(V1, soon());
  t.same(
    upstream.requests('token').map((entry) => entry.query.get('scope')),
    [scope, scope],
  );
});

t.test('token: a challenge whose scope is empty says nothing of it', async (t) => {
  for (const scope of ['', ' ']) {
    const upstream = await startUpstream(t, { auth: { type: 'token', saysScope: scope } });
    upstream.push(repository, IMAGE, 'v1');
    const client = clientOf(t, upstream.url);
    t.ok(await client.getManifest(V1, soon()), JSON.stringify(scope));
    t.same(
      upstream.requests('token').map((entry) => entry.query.getAll('scope')),
      [[`repository:${repository}:pull`]],
    );
  }
});

t.test('token: several scopes of a challenge are asked for one by one', async (t) => {
  const scopes = ['repository:team/app:pull', 'repository:team/base:pull'];
  const upstream = await startUpstream(t, { auth: { type: 'token', scope: scopes.join(' ') } });
  upstream.push(repository, IMAGE, 'v1');
  const client = clientOf(t, upstream.url);
  t.ok(await client.getManifest(V1, soon()));
  t.same(
    upstream.requests('token').map((entry) => entry.query.getAll('scope')),
    [scopes],
  );
});

t.test('token: failures of the token service are coded', async (t) => {
  const cases = [
    [{ type: 'status', status: 401 }, 'UPSTREAM_DENIED'],
    [{ type: 'status', status: 503 }, 'BACKEND_DOWN'],
    [{ type: 'status', status: 429, headers: { 'retry-after': '7' } }, 'UPSTREAM_LIMITED'],
    [{ type: 'status', status: 200, body: 'not json' }, 'BACKEND_DOWN'],
    [{ type: 'status', status: 204 }, 'BACKEND_DOWN'],
    [{ type: 'status', status: 201, body: '{"token":"taken"}' }, 'UPSTREAM_DENIED'],
    [{ type: 'status', status: 200, body: '\ufeff{"token":"taken"}' }, 'UPSTREAM_DENIED'],
    [{ type: 'status', status: 200, body: 'null' }, 'BACKEND_DOWN'],
    [{ type: 'status', status: 200, body: '{"token":"a\\r\\nX-Evil: 1"}' }, 'BACKEND_DOWN'],
    [{ type: 'reset' }, 'BACKEND_DOWN'],
    [{ type: 'silent' }, 'BACKEND_DOWN'],
  ] as const;
  for (const [does, code] of cases) {
    const upstream = await startUpstream(t, { auth: { type: 'token' } });
    upstream.push(repository, IMAGE, 'v1');
    upstream.misbehave({ kind: 'token', does });
    const options = does.type === 'silent' ? { headersTimeoutMs: 300 } : {};
    const client = clientOf(t, upstream.url, { options });
    const error = await failure(client.getManifest(V1, soon()), code);
    if (code === 'UPSTREAM_LIMITED') t.equal(error.detail['retryAfterSeconds'], 7);
    upstream.behave();
    const works = (): Promise<boolean> =>
      client.getManifest(V1, soon()).then(
        () => true,
        () => false,
      );
    // Who waits for so short a time may do so in vain on a busy machine.
    await until(works, `works again after ${JSON.stringify(does)}`);
  }
});

t.test('token: a registry behind a redirect is asked for a token in nobody’s name', async (t) => {
  const upstream = await startUpstream(t, { auth: { type: 'basic', ...USER } });
  const thief = await startUpstream(t, { auth: { type: 'token', ...USER } });
  upstream.push(repository, IMAGE);
  const digest = IMAGE.layers[0]!;
  upstream.misbehave({
    kind: 'blob',
    does: { type: 'redirect', to: `${thief.url}/v2/${repository}/blobs/${digest}` },
  });
  const client = clientOf(t, upstream.url, { credentials: USER });
  await failure(client.getBlob({ repository, digest }, soon()), 'BACKEND_DOWN');
  t.same(
    thief.requests('token').map((entry) => entry.authorization),
    [undefined],
  );
  t.notOk(thief.log.some((entry) => entry.authorization !== undefined));
});

t.test('where no token opens a HEAD of a blob, GET is asked, and from then on at once', async (t) => {
  const upstream = await startUpstream(t, { auth: { type: 'token' } });
  upstream.push(repository, IMAGE, 'v1');
  const client = clientOf(t, upstream.url);
  await client.getManifest(V1, soon());
  const [digest, other] = IMAGE.layers;
  upstream.misbehave({ kind: 'blob', method: 'HEAD', does: { type: 'status', status: 401 } });
  t.same(await client.headBlob({ repository, digest: digest! }, soon()), { sizeBytes: 1000 });
  const before = upstream.requests('blob', 'HEAD').length;
  t.same(await client.headBlob({ repository, digest: other! }, soon()), { sizeBytes: 2000 });
  t.equal(upstream.requests('blob', 'HEAD').length, before);
  upstream.misbehave({ kind: 'blob', method: 'GET', does: { type: 'status', status: 401 } });
  await failure(client.headBlob({ repository, digest: digest! }, soon()), 'UPSTREAM_DENIED');
});

t.test('other refusals are not about who asks; what is gone is unknown', async (t) => {
  const upstream = await startUpstream(t, { auth: { type: 'token' } });
  upstream.push(repository, IMAGE, 'v1');
  const client = clientOf(t, upstream.url);
  for (const [status, isIt] of [
    [401, true],
    [403, true],
    [400, false],
    [406, false],
    [451, false],
  ] as const) {
    upstream.misbehave({ kind: 'manifest', does: { type: 'status', status } });
    const error = await failure(client.getManifest(V1, soon()), 'UPSTREAM_DENIED');
    t.equal(isOfWhoAsks(error), isIt, String(status));
    upstream.behave();
  }
  upstream.misbehave({ kind: 'manifest', does: { type: 'status', status: 410 } });
  await failure(client.getManifest(V1, soon()), 'MANIFEST_UNKNOWN');
});

t.test('403 and 412 are denials that say what the upstream said', async (t) => {
  for (const [status, code] of [
    [403, 'UPSTREAM_DENIED'],
    [412, 'UPSTREAM_POLICY'],
  ] as const) {
    const upstream = await startUpstream(t);
    upstream.push(repository, IMAGE, 'v1');
    const body = '{"errors":[{"code":"PROJECTPOLICYVIOLATION","message":"has vulnerabilities"}]}';
    upstream.misbehave({ does: { type: 'status', status, body } });
    const error = await failure(clientOf(t, upstream.url).getManifest(V1, soon()), code);
    t.equal(error.facts.status, status === 403 ? 403 : 412);
    t.match(error.detail, {
      status,
      upstreamCode: 'PROJECTPOLICYVIOLATION',
      upstreamMessage: 'has vulnerabilities',
    });
  }
});

t.test(
  'a brought token goes to the upstream in place of the own credentials, a refusal is final',
  async (t) => {
    const upstream = await startUpstream(t, { auth: { type: 'basic', ...USER } });
    upstream.push(repository, IMAGE, 'v1');
    const client = clientOf(t, upstream.url, { credentials: USER });
    const brought = `Basic ${Buffer.from(`${USER.username}:${USER.password}`).toString('base64')}`;
    await client.as(brought).getManifest(V1, soon());
    t.equal(upstream.log.length, 1, 'no round for a challenge');
    await failure(client.as('Bearer not-known').getManifest(V1, soon()), 'UPSTREAM_DENIED');
    t.equal(upstream.log.length, 2);
    await client.getManifest(V1, soon());
  },
);

t.test('a brought token does not follow a redirect to another host', async (t) => {
  const upstream = await startUpstream(t);
  const bytes = seededBytes(1_000, 'x');
  const digest = upstream.addBlob(repository, bytes);
  upstream.misbehave({ kind: 'blob', does: { type: 'redirect' } });
  const client = clientOf(t, upstream.url).as('Bearer carried');
  const { body } = await client.getBlob({ repository, digest }, soon());
  t.ok(bytes.equals(await readAll(body)));
  t.same(
    upstream.log.map(({ host, authorization }) => [host, authorization]),
    [
      ['registry', 'Bearer carried'],
      ['store', undefined],
    ],
  );
});
