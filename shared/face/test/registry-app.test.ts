import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { createGate } from '@sepia/http/gate';
import { HttpListener } from '@sepia/http/listener';
import { OPEN_ROUTES } from '@sepia/http/open-routes';
import { CallVerifier, hashOf, signCall } from '@sepia/http/sign';
import t, { type Test } from 'tap';
import { request } from 'undici';
import { sendManifest } from '../src/manifest-answer.ts';
import { createRegistryApp, type RegistryHandlers } from '../src/registry-app.ts';

const UPSTREAMS = [
  { name: 'local', hosts: ['local', '127.0.0.1:5000'] },
  { name: 'hub', hosts: ['hub', 'docker.io'] },
];
const KEY = Buffer.alloc(32, 7);
const BYTES = Buffer.from('{"schemaVersion":2}');
const DIGEST = digestOf(BYTES);

interface Seen {
  readonly type: string;
  readonly upstream: string;
  readonly repository: string;
}

function reads(seen: Seen[]): RegistryHandlers {
  const note = (type: string, target: { upstream: string; repository: string }): void => {
    seen.push({ type, ...target });
  };
  return {
    manifest: async (ctx, target) => {
      note('manifest', target);
      sendManifest(ctx, { digest: DIGEST, mediaType: 'a/b', sizeBytes: BYTES.length, bytes: BYTES });
    },
    blob: async (ctx, target) => {
      note('blob', target);
      ctx.body = 'blob';
    },
    tags: async (ctx, target) => {
      note('tags', target);
      ctx.body = { tags: [] };
    },
  };
}

const guards = { health: refuse, driver: refuse, webhook: refuse };

function refuse(): never {
  throw new CodedError('AUTH_REQUIRED');
}

async function start(t: Test, handlers: RegistryHandlers): Promise<string> {
  const app = createRegistryApp(
    {
      log: silentLogger(),
      upstreams: () => UPSTREAMS,
      handlers,
      gate: createGate({
        open: OPEN_ROUTES.proxy,
        guards,
        verifier: new CallVerifier({ clusterKey: KEY, selfId: 'p-1' }),
      }),
    },
    { defaultUpstream: 'local', readOnly: 'push at http://proxy' },
  );
  const listener = await HttpListener.start(app.callback(), '127.0.0.1:0', 'listen');
  t.teardown(() => listener.stop(0));
  return listener.url;
}

async function ask(url: string, method = 'GET', headers: Record<string, string> = {}) {
  const answer = await request(url, { method: method as 'GET', headers });
  const text = await answer.body.text();
  return { status: answer.statusCode, headers: answer.headers, text, code: answer.headers['sepia-error'] };
}

t.test('base answers {} and names the API version', async (t) => {
  const url = await start(t, reads([]));
  for (const path of ['/v2', '/v2/']) {
    const answer = await ask(url + path);
    t.equal(answer.status, 200, path);
    t.equal(answer.text, '{}', path);
    t.equal(answer.headers['docker-distribution-api-version'], 'registry/2.0', path);
  }
  t.equal((await ask(`${url}/v2/`, 'POST')).status, 405);
  t.equal((await ask(`${url}/v2/_catalog`)).status, 404);
  t.equal((await ask(`${url}/other`)).code, 'ROUTE_UNKNOWN');
});

t.test('a name means what ns, its host part or the listener says', async (t) => {
  const seen: Seen[] = [];
  const url = await start(t, reads(seen));
  await ask(`${url}/v2/a/b/manifests/v1`);
  await ask(`${url}/v2/busybox/manifests/v1?ns=docker.io`);
  await ask(`${url}/v2/index.docker.io/x/y/tags/list`);
  await ask(`${url}/v2/a/blobs/${encodeURIComponent(DIGEST)}`);
  t.same(seen, [
    { type: 'manifest', upstream: 'local', repository: 'a/b' },
    { type: 'manifest', upstream: 'hub', repository: 'library/busybox' },
    { type: 'tags', upstream: 'hub', repository: 'x/y' },
    { type: 'blob', upstream: 'local', repository: 'a' },
  ]);
  t.equal((await ask(`${url}/v2/a/manifests/v1?ns=evil.example`)).code, 'UPSTREAM_UNKNOWN');
  t.equal((await ask(`${url}/v2/a/manifests/v1?ns=a&ns=b`)).code, 'REQUEST_INVALID');
});

t.test('bad paths get coded errors', async (t) => {
  const url = await start(t, reads([]));
  const cases: [string, number, string][] = [
    ['/v2/..%2f..%2fetc/manifests/v1', 400, 'NAME_INVALID'],
    ['/v2/UPPER/manifests/v1', 400, 'NAME_INVALID'],
    ['/v2/a/manifests/-bad', 404, 'TAG_UNKNOWN'],
    ['/v2/a/blobs/sha256:ABC', 400, 'DIGEST_SYNTAX'],
    [`/v2/a/blobs/${DIGEST.toUpperCase()}`, 400, 'DIGEST_SYNTAX'],
    ['/v2/a/manifests/%', 400, 'REQUEST_INVALID'],
    ['/v2/a/nothing/x', 404, 'ROUTE_UNKNOWN'],
    [`/v2/a/referrers/${DIGEST}`, 404, 'ROUTE_UNKNOWN'],
  ];
  for (const [path, status, code] of cases) {
    const answer = await ask(url + path);
    t.equal(answer.status, status, path);
    t.equal(answer.code, code, path);
    t.ok(JSON.parse(answer.text).errors[0].code, path);
  }
});

t.test('without a write side, writes are 405 with the message of the listener', async (t) => {
  const url = await start(t, reads([]));
  for (const [method, path] of [
    ['POST', '/v2/a/blobs/uploads/'],
    ['PATCH', '/v2/a/blobs/uploads/x'],
    ['PUT', '/v2/a/manifests/v1'],
    ['DELETE', `/v2/a/blobs/${DIGEST}`],
  ] as const) {
    const answer = await ask(url + path, method);
    t.equal(answer.status, 405, path);
    t.same(JSON.parse(answer.text).errors[0].code, 'UNSUPPORTED', path);
    t.match(answer.text, /push at http:\/\/proxy/, path);
    t.type(answer.headers['allow'], 'string', path);
  }
});

t.test('members name the upstream; a wrong signature is refused', async (t) => {
  const seen: Seen[] = [];
  const url = await start(t, reads(seen));
  const path = '/v2/a/manifests/v1';
  const sign = (key: Uint8Array, upstream: string) => ({
    'sepia-upstream': upstream,
    authorization: signCall(
      { clusterKey: key, id: 'agent-1' },
      'p-1',
      { method: 'GET', path, headers: { 'sepia-upstream': upstream }, body: hashOf('') },
      Date.now(),
    ),
  });
  t.equal((await ask(url + path, 'GET', sign(KEY, 'hub'))).status, 200);
  t.equal((await ask(url + path, 'GET', sign(Buffer.alloc(32, 8), 'hub'))).code, 'SIGNATURE_INVALID');
  t.equal((await ask(url + path, 'GET', sign(KEY, 'nobody'))).code, 'UPSTREAM_UNKNOWN');
  t.equal((await ask(url + path, 'GET', { 'sepia-upstream': 'hub' })).status, 200);
  t.same(
    seen.map((one) => one.upstream),
    ['hub', 'local'],
    'an unsigned Sepia-Upstream counts for nothing',
  );
});

t.test('HEAD of a manifest has length, type and digest, and no body', async (t) => {
  const url = await start(t, reads([]));
  const head = await ask(`${url}/v2/a/manifests/v1`, 'HEAD');
  t.equal(head.status, 200);
  t.equal(head.headers['content-length'], String(BYTES.length));
  t.equal(head.headers['content-type'], 'a/b');
  t.equal(head.headers['docker-content-digest'], DIGEST);
  t.equal(head.text, '');
  const known = await ask(`${url}/v2/a/manifests/v1`, 'GET', { 'if-none-match': `"${DIGEST}"` });
  t.equal(known.status, 304);
  t.equal((await ask(`${url}/v2/a/manifests/v1`)).text, BYTES.toString());
});

t.test('what the registry behind limits is 429 for clients that ask for manifests and lists', async (t) => {
  const limited = async (): Promise<never> => {
    const detail = { upstream: 'hub', retryAfterSeconds: 7 };
    throw new CodedError('UPSTREAM_LIMITED', { message: 'hub limits the request rate', detail });
  };
  const limits = { manifest: limited, blob: limited, tags: limited, referrers: limited, catalog: limited };
  const url = await start(t, limits);
  const read = async (path: string, method: 'GET' | 'HEAD' = 'GET', headers = {}) => {
    const { statusCode, headers: had, body } = await request(`${url}/v2/${path}`, { method, headers });
    return {
      status: statusCode,
      after: had['retry-after'],
      error: had['sepia-error'],
      text: await body.text(),
    };
  };
  const told = { status: 429, after: '7', error: 'OVERLOADED' };
  for (const path of ['a/b/manifests/v1', 'a/b/tags/list', `a/b/referrers/${DIGEST}`, '_catalog']) {
    const answer = await read(path);
    t.match(answer, told, path);
    t.match(JSON.parse(answer.text), {
      errors: [{ code: 'TOOMANYREQUESTS', message: /limits the request/ }],
    });
  }
  t.match(await read('a/b/manifests/v1', 'HEAD'), told);
  t.match(await read(`a/b/blobs/${DIGEST}`), { status: 503, after: '7', error: 'UPSTREAM_LIMITED' });

  const path = '/v2/a/b/manifests/v1';
  const call = { method: 'GET', path, headers: { 'sepia-upstream': 'hub' }, body: hashOf('') };
  const authorization = signCall({ clusterKey: KEY, id: 'agent-1' }, 'p-1', call, Date.now());
  const member = await read('a/b/manifests/v1', 'GET', { 'sepia-upstream': 'hub', authorization });
  t.match(member, { status: 503, error: 'UPSTREAM_LIMITED' }, 'members are told what it is');
});
