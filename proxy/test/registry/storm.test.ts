import { Readable } from 'node:stream';
import { digestOf } from '@sepia/base/digest';
import { delay } from '@sepia/base/lifecycle';
import { silentLogger } from '@sepia/base/log';
import { Cluster } from '@sepia/cluster/cluster';
import { Health, UNTIL_IT_ANSWERS } from '@sepia/cluster/core/health';
import { parseClusterDocument } from '@sepia/cluster/load-document';
import { createRegistryApp } from '@sepia/face/registry-app';
import type { InternalClient, InternalRequest } from '@sepia/http/client';
import { createGate } from '@sepia/http/gate';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { type VirtualAnswer, virtualGet } from '@sepia/test-support/virtual-get';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t, { type Test } from 'tap';
import { Origins } from '../../src/cluster/origins.ts';
import { createManifestCache } from '../../src/registry/core/manifest-cache.ts';
import { readManifest } from '../../src/registry/manifests.ts';

const MEMBERS = [{ id: 'origin-1', role: 'origin', urls: ['http://127.0.0.1:1'], peers: ['127.0.0.1:2'] }];
const manifestOf = (n: number): Buffer => Buffer.from(JSON.stringify({ schemaVersion: 2, layers: [], n }));

/** A proxy before an origin that takes `thinksMs` and answers with what the tag was when it was asked. */
function proxy(t: Test, thinksMs: number) {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const state = { calls: 0, bytes: manifestOf(1) };
  const call = async ({ method, path, signal }: InternalRequest) => {
    if (!path.includes('/manifests')) return { status: 200, headers: {}, body: Readable.from([]) };
    state.calls += 1;
    const { bytes } = state;
    await delay(thinksMs, signal);
    const headers = {
      'docker-content-digest': digestOf(bytes),
      'content-type': OCI_MANIFEST,
      'content-length': String(bytes.length),
    };
    const body = Object.assign(Readable.from(method === 'HEAD' ? [] : [bytes]), {
      dump: async () => undefined,
    });
    return { status: 200, headers, body };
  };
  const bytes = async (): Promise<object> => ({ status: 200, headers: {}, bytes: Buffer.from('{}') });
  const document = { version: 1, members: MEMBERS, upstreams: [{ name: 'local', mode: 'none' }] };
  const cluster = new Cluster(parseClusterDocument(JSON.stringify(document), 'cluster.yaml'));
  const client = { call, bytes } as unknown as InternalClient;
  const nowMs = (): number => performance.now();
  const origins = new Origins({ cluster, client, health: new Health(nowMs, UNTIL_IT_ANSWERS) });
  const cache = createManifestCache(1_000_000, () => true);
  const manifest = readManifest({
    origins,
    cache,
    isRechecked: () => false,
    gate: undefined as never,
    nowMs,
  });
  const none = async (): Promise<void> => undefined;
  const app = createRegistryApp(
    {
      log: silentLogger(),
      gate: createGate({ open: { '/*': 'anyone' } }),
      handlers: { manifest, blob: none, tags: none },
      upstreams: () => cluster.upstreams,
    },
    { defaultUpstream: 'local' },
  );
  const get = async (method: 'GET' | 'HEAD'): Promise<VirtualAnswer> =>
    await virtualGet(app.callback(), '/v2/app/manifests/v1', { method });
  return { time, state, get };
}

for (const method of ['GET', 'HEAD'] as const)
  t.test(`${method} of a tag by thousands at once asks an origin a few times`, async (t) => {
    const { time, state, get } = proxy(t, 3_000);
    const answers = await time.settle(Promise.all(Array.from({ length: 2_000 }, () => get(method))));
    t.ok(answers.every(({ status, complete }) => status === 200 && complete));
    t.same(
      new Set(answers.map(({ headers }) => headers['docker-content-digest'])),
      new Set([digestOf(state.bytes)]),
    );
    t.equal(state.calls, 2);
  });

t.test('who asks after a push was acknowledged never gets what the tag was before', async (t) => {
  const { time, state, get } = proxy(t, 50);
  const before = get('HEAD');
  await time.settle(delay(10));
  state.bytes = manifestOf(2);
  const after = Array.from({ length: 10 }, () => get('HEAD'));
  const [first, ...others] = await time.settle(Promise.all([before, ...after]));
  t.equal(first?.headers['docker-content-digest'], digestOf(manifestOf(1)));
  for (const one of others) t.equal(one.headers['docker-content-digest'], digestOf(manifestOf(2)));
});
