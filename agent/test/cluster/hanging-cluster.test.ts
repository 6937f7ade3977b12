import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { Cluster } from '@sepia/cluster/cluster';
import { LinkLedger } from '@sepia/cluster/core/link-ledger';
import { parseClusterDocument } from '@sepia/cluster/load-document';
import type { InternalClient, InternalRequest } from '@sepia/http/client';
import { parseReference } from '@sepia/oci/route';
import type { BlobStore } from '@sepia/store/blob-store';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import type { UpstreamClient } from '@sepia/upstream/upstream-client';
import t, { type Test } from 'tap';
import { Hints } from '../../src/blobs/core/hints.ts';
import { CallWatch } from '../../src/cluster/members.ts';
import { OriginClient } from '../../src/cluster/origin-client.ts';
import { TrackerClient } from '../../src/cluster/tracker-client.ts';
import { ClusterGuide } from '../../src/downloads/guide.ts';
import { Manifests } from '../../src/manifests/manifests.ts';
import type { TagMemory } from '../../src/manifests/tag-memory.ts';
import { SourceGate } from '../../src/source/source-gate.ts';

const ROLES = { proxy: 2, tracker: 2, origin: 3 };
const MEMBERS = Object.entries(ROLES).flatMap(([role, count]) =>
  Array.from({ length: count }, (_, at) => ({
    id: `${role}-${at + 1}`,
    role,
    urls: [`http://${role}-${at + 1}.example`],
    ...(role === 'origin' ? { peers: [`127.0.0.1:${at + 2}`] } : {}),
  })),
);
const UPSTREAM = { name: 'up', url: 'http://up.example', mode: 'pull-through' };
const NEVER = new AbortController().signal;
const TARGET = { upstream: 'up', repository: parseRepositoryName('a/b') };
const MANIFEST = Buffer.from('{"schemaVersion":2,"layers":[]}');

const LOST = 'too few origins answer to decide';
const none = async (): Promise<undefined> => undefined;

/** The parts of a node whose every member takes all calls; all but `lonely`, who lack a majority, answer none. */
function nodeAlone(t: Test, lonely: readonly string[] = []) {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const cluster = new Cluster(
    parseClusterDocument(
      JSON.stringify({ version: 1, members: MEMBERS, upstreams: [UPSTREAM] }),
      'cluster.yaml',
    ),
  );
  const hang = async ({ signal, to }: InternalRequest): Promise<unknown> =>
    lonely.includes(to)
      ? { body: { dump: none } }
      : await new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
  const bytes = async (call: InternalRequest): Promise<unknown> => {
    if (!lonely.includes(call.to)) return await hang(call);
    throw new CodedError('QUORUM_LOST', { message: LOST, detail: { status: 503 } });
  };
  const client = { call: hang, raw: hang, json: hang, bytes } as unknown as InternalClient;
  const nowMs = (): number => performance.now();
  const health = new CallWatch(nowMs, client);
  t.teardown(() => health.stop());
  const origins = new OriginClient({ cluster, client, health });
  const trackers = new TrackerClient({ cluster, client, health });
  const gate = new SourceGate(2);
  const deps = { cluster, client, health, origins, trackers, gate, nodeId: 'agent-1', log: silentLogger() };
  return { ...deps, time, nowMs, dateMs: nowMs };
}

function manifestsOf(node: ReturnType<typeof nodeAlone>, upstream: UpstreamClient, mode: 'auto' | 'never') {
  const deps = {
    ...node,
    store: { open: none, putBytes: none, addProvenance: none } as unknown as BlobStore,
    hints: new Hints(),
    tags: { ask: () => 1, get: () => undefined, note: () => undefined } as unknown as TagMemory,
    proofs: new LinkLedger<true>({ beliefMs: () => undefined, limit: 10 }),
    upstreamClient: () => upstream,
  };
  return new Manifests(deps, { backToSource: { mode, afterMs: 5_000 } });
}

t.test('a blob is given up within 5 s, however many kinds of members would be asked in turn', async (t) => {
  const node = nodeAlone(t);
  const digest = digestOf(Buffer.from('blob'), 'sha256');
  const guide = new ClusterGuide({ ...node, addresses: () => [], zone: undefined }, { ...TARGET, digest });
  await t.rejects(node.time.settle(guide.locate(true, NEVER)), { code: 'NO_PEERS' });
  t.equal(node.time.elapsedMs, 4_501);
});

t.test('a manifest comes from the upstream itself after 5 s', async (t) => {
  const node = nodeAlone(t);
  let askedMs: number | undefined;
  const upstream = {
    getManifest: async () => {
      askedMs = node.time.elapsedMs;
      return { bytes: MANIFEST, mediaType: 'application/json', digest: digestOf(MANIFEST, 'sha256') };
    },
  } as unknown as UpstreamClient;
  const manifests = manifestsOf(node, upstream, 'auto');
  const found = await node.time.settle(manifests.get(TARGET, parseReference('v1'), NEVER));
  t.same(found.bytes, MANIFEST);
  t.equal(askedMs, 4_501);
  t.equal(node.gate.silentForMs(node.nowMs()), 4_500, 'blobs need not wait for as long again');
});

t.test('a manifest waits behind no blob that comes from the upstream itself', async (t) => {
  const node = nodeAlone(t);
  for (let blob = 0; blob < 2; blob++) await node.gate.enter('blob', NEVER);
  const upstream = {
    getManifest: async () => {
      return { bytes: MANIFEST, mediaType: 'application/json', digest: digestOf(MANIFEST, 'sha256') };
    },
  } as unknown as UpstreamClient;
  const client = new AbortController();
  const late = setTimeout(() => client.abort(new CodedError('TIMEOUT')), 60_000);
  const pulled = manifestsOf(node, upstream, 'auto').get(TARGET, parseReference('v1'), client.signal);
  t.same((await node.time.settle(pulled)).bytes, MANIFEST);
  clearTimeout(late);
});

t.test('all pods of a node that ask for a tag at once are a few questions', async (t) => {
  const node = nodeAlone(t);
  let asked = 0;
  const upstream = {
    getManifest: async () => {
      asked += 1;
      return { bytes: MANIFEST, mediaType: 'application/json', digest: digestOf(MANIFEST, 'sha256') };
    },
  } as unknown as UpstreamClient;
  const manifests = manifestsOf(node, upstream, 'auto');
  const pods = Array.from({ length: 2_000 }, () => manifests.get(TARGET, parseReference('v1'), NEVER));
  const found = await node.time.settle(Promise.all(pods));
  t.ok(found.every(({ bytes }) => MANIFEST.equals(bytes)));
  t.equal(asked, 2);
});

t.test(
  'where members answer, but too few to decide, a node says that, not that nobody answers',
  async (t) => {
    for (const lonely of [['proxy-1', 'origin-1'], ['proxy-2'], ['origin-3']]) {
      const node = nodeAlone(t, lonely);
      const manifests = manifestsOf(node, {} as UpstreamClient, 'never');
      const pulled = node.time.settle(manifests.get(TARGET, parseReference('v1'), NEVER));
      await t.rejects(pulled, { code: 'QUORUM_LOST', message: LOST }, lonely.join());
      node.time.uninstall();
    }
    const node = nodeAlone(t);
    const nobody = node.time.settle(
      manifestsOf(node, {} as UpstreamClient, 'never').get(TARGET, parseReference('v1'), NEVER),
    );
    await t.rejects(nobody, { code: 'NO_PEERS' });
  },
);
