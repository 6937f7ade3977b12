import { Readable } from 'node:stream';
import { mock } from 'node:test';
import { digestOf } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { outOfFiles } from '@sepia/base/system/open-files';
import { Cluster } from '@sepia/cluster/cluster';
import { Health, UNTIL_IT_ANSWERS } from '@sepia/cluster/core/health';
import { parseClusterDocument } from '@sepia/cluster/load-document';
import type { InternalClient } from '@sepia/http/client';
import { startCrowdedMember } from '@sepia/test-support/cluster/crowded-member';
import { until } from '@sepia/test-support/until';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t from 'tap';
import { whileAlive } from '../../src/bodies/blob-source.ts';
import { openOriginBlob } from '../../src/bodies/origin-blob.ts';
import { Origins } from '../../src/cluster/origins.ts';

const never = new AbortController().signal;

/** A proxy's one origin; `asked` counts the calls of each client, `silent` takes its answers away. */
function origin(urls = ['http://127.0.0.1:1']) {
  const cluster = new Cluster(
    parseClusterDocument(
      JSON.stringify({
        version: 1,
        members: [{ id: 'origin-1', role: 'origin', urls }],
        upstreams: [{ name: 'local', mode: 'none', hosts: [] }],
      }),
      'cluster.yaml',
    ),
  );
  const asked = { bodies: 0, probes: 0 };
  const state = { silent: false, nowMs: 0 };
  const clientOf = (kind: keyof typeof asked): InternalClient => {
    const bytes = async () => {
      await new Promise(setImmediate);
      asked[kind] += 1;
      if (state.silent) throw new CodedError('PEER_HTTP', { message: 'no answer' });
      return { status: 200, headers: {}, bytes: Buffer.from('{}') };
    };
    const call = async () => ({ ...(await bytes()), body: Readable.from([Buffer.from('{}')]) });
    return { call, bytes } as unknown as InternalClient;
  };
  const clients = { bodies: clientOf('bodies'), probes: clientOf('probes') };
  const origins = new Origins({
    cluster,
    client: clients.bodies,
    prober: clients.probes,
    health: new Health(() => state.nowMs, UNTIL_IT_ANSWERS),
  });
  return { origins, asked, state, clients };
}

t.test(
  'own want of sockets says nothing of an origin, and its probe does not end what it does',
  async (t) => {
    const { origins, clients, state } = origin(['http://127.0.0.1:1', 'http://127.0.0.1:2']);
    let tried = 0;
    const none = async (): Promise<never> => {
      tried += 1;
      throw outOfFiles(Object.assign(new Error('connect EMFILE'), { code: 'EMFILE' }));
    };
    clients.bodies.call = none;
    clients.probes.bytes = none;
    const call = { method: 'GET', path: '/x', headersTimeoutMs: 1_000, signal: never } as const;
    await t.rejects(origins.call('origin-1', call), { code: 'MEMBER_BUSY' });
    t.equal(tried, 1, 'nor would another address help');
    t.ok(await origins.probe('origin-1'));
    t.notOk(origins.health.isSuspect('origin-1'));
    state.silent = true;
    state.nowMs = 10_000;
    origins.health.failed('origin-1');
    await t.rejects(origins.call('origin-1', call), { code: 'MEMBER_BUSY' });
    t.ok(origins.health.isSuspect('origin-1'), 'nor does it count as an answer');
  },
);

t.test(
  'however many ask whether an origin lives, it is asked once at a time, beside the bodies',
  async (t) => {
    const { origins, asked, state } = origin();
    const all = await Promise.all(Array.from({ length: 500 }, () => origins.probe('origin-1')));
    t.ok(all.every(Boolean));
    t.same(asked, { bodies: 0, probes: 1 });
    state.silent = true;
    t.equal(await origins.probe('origin-1'), false);
    t.same(asked, { bodies: 0, probes: 2 }, 'an answer is not kept');
  },
);

t.test('all who wait for an origin are one probe; when it is silent all give up', async (t) => {
  const { origins, asked, state } = origin();
  mock.timers.enable({ apis: ['setInterval'] });
  t.teardown(() => mock.timers.reset());
  const waiting = Array.from({ length: 100 }, () =>
    whileAlive(origins, 'origin-1', never, async (signal) => {
      await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
    }),
  );
  mock.timers.tick(250);
  state.silent = true;
  const ended = Promise.allSettled(waiting);
  for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
  t.equal(asked.probes, 1, 'one question for all of them');
  for (let miss = 1; miss <= 2; miss++) {
    mock.timers.tick(250);
    for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
  }
  const outcomes = await ended;
  t.ok(outcomes.every((one) => one.status === 'rejected' && isCoded(one.reason, 'PEER_HTTP')));
});

t.test('an origin that misses one question is not given up', async (t) => {
  const { origins, asked, state } = origin();
  mock.timers.enable({ apis: ['setInterval'] });
  t.teardown(() => mock.timers.reset());
  let finish: (what: string) => void = () => undefined;
  const waiting = whileAlive(
    origins,
    'origin-1',
    never,
    async (signal) =>
      await new Promise<string>((resolve, reject) => {
        finish = resolve;
        signal.addEventListener('abort', () => reject(signal.reason));
      }),
  );
  const look = async (isSilent: boolean): Promise<void> => {
    state.silent = isSilent;
    state.nowMs += 1_000;
    mock.timers.tick(250);
    for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
  };
  for (const isSilent of [true, false, true]) await look(isSilent);
  t.equal(asked.probes, 3);
  finish('answered');
  t.equal(await waiting, 'answered');
});

t.test('an origin that answers others lives: it is not asked', async (t) => {
  const { origins, asked, state } = origin();
  mock.timers.enable({ apis: ['setInterval'] });
  t.teardown(() => mock.timers.reset());
  const gone = new AbortController();
  const waiting = whileAlive(origins, 'origin-1', gone.signal, async (signal) => {
    await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  });
  const ended = Promise.allSettled([waiting]);
  state.nowMs = 100;
  origins.health.answered('origin-1');
  state.nowMs = 250;
  mock.timers.tick(250);
  for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
  t.equal(asked.probes, 0);
  state.nowMs = 500;
  mock.timers.tick(250);
  for (let turn = 0; turn < 10; turn++) await new Promise(setImmediate);
  t.equal(asked.probes, 1, 'nothing was heard of it since');
  gone.abort(new CodedError('TIMEOUT'));
  await ended;
});

t.test(
  'a proxy with nothing to do probes seldom, and at once when there is work or one is silent',
  async (t) => {
    const time = new VirtualTime().install();
    t.teardown(() => time.uninstall());
    const { origins, asked, state } = origin();
    Object.defineProperty(state, 'nowMs', { get: () => time.elapsedMs });
    const stopping = new AbortController();
    const watching = origins.watch(stopping.signal);
    const probesIn = async (ms: number): Promise<number> => {
      const before = asked.probes;
      await time.pass(ms);
      return asked.probes - before;
    };
    t.equal(await probesIn(9_500), 5, 'every other second');
    await time.pass(2_500);
    t.equal(await probesIn(30_000), 10, 'every three seconds');
    const before = asked.probes;
    await time.pass(2_500);
    await time.settle(origins.call('origin-1', { method: 'GET', path: '/', headersTimeoutMs: 1_000 }));
    await time.pass(0);
    t.ok(asked.probes > before, 'there is work');
    t.equal(await probesIn(9_500), 4, 'every other second, from the answer on');
    await time.pass(20_000);
    state.silent = true;
    const fromMs = time.elapsedMs;
    while (!origins.health.isSuspect('origin-1')) await time.pass(100);
    t.ok(time.elapsedMs - fromMs <= 3_000);
    t.same(origins.health.silent(['origin-1']), [], 'one probe that fails silences nobody');
    t.equal(await probesIn(5_000), 5, 'one that is suspect is probed each second');
    t.same(origins.health.silent(['origin-1']), ['origin-1']);
    state.silent = false;
    await time.pass(1_000);
    t.notOk(origins.health.isSuspect('origin-1'));
    stopping.abort(new CodedError('DRAINING'));
    await time.settle(watching);
  },
);

t.test('a question never queues behind bodies and what is waited for, however much that is', async (t) => {
  const member = await startCrowdedMember(
    t,
    (method, path) => method === 'GET' && path.startsWith('/v1/blobs/'),
  );
  const document = {
    version: 1,
    members: [{ id: 'origin-1', role: 'origin', urls: [member.url] }],
    upstreams: [{ name: 'local', mode: 'none', hosts: [] }],
  };
  const cluster = new Cluster(parseClusterDocument(JSON.stringify(document), 'cluster.yaml'));
  const health = new Health(() => performance.now(), UNTIL_IT_ANSWERS);
  const origins = new Origins({ cluster, client: member.client, health });
  const gone = new AbortController();
  const deps = { origins, log: silentLogger(), stallMs: 60_000 };
  const reads = [1, 2, 3, 4].flatMap((n) => {
    const repository = parseRepositoryName('app');
    const name = { upstream: 'local', repository, digest: digestOf(Buffer.from(String(n))) };
    const plan = { originIds: ['origin-1'], isDefinite: true } as const;
    const small = { ...plan, type: 'holders', sizeBytes: 10 } as const;
    const fetched = { ...plan, type: 'leader' } as const;
    return [small, fetched].map(
      async (one) => await openOriginBlob(deps, name, one, { want: 'all' }, gone.signal),
    );
  });
  await until(() => member.hung() === 4, 'two bodies and two waits are under way, as many wait for a socket');
  t.same(await origins.quick('origin-1', 20_000, { method: 'GET', path: '/v1/catalog' }), {});
  gone.abort(new CodedError('TIMEOUT'));
  t.ok((await Promise.allSettled(reads)).every(({ status }) => status === 'rejected'));
  t.equal(member.hung(), 4);
});

t.test('three proxies that hear the same ask 7 origins in the same order: who is silent last', async (t) => {
  const ids = ['o1', 'o2', 'o3', 'o4', 'o5', 'o6', 'o7'];
  const members = ids.map((id) => ({ id, role: 'origin', urls: [`http://127.0.0.1:${id.slice(1)}`] }));
  const upstreams = [{ name: 'local', mode: 'none', hosts: [] }];
  const text = JSON.stringify({ version: 1, members, upstreams });
  const silent = new Set<string>();
  const bytes = async ({ to }: { to: string }) => {
    if (silent.has(to)) throw new CodedError('PEER_HTTP', { message: 'no answer' });
    return { status: 200, headers: {}, bytes: Buffer.alloc(0) };
  };
  const proxies = Array.from(
    { length: 3 },
    () =>
      new Origins({
        cluster: new Cluster(parseClusterDocument(text, 'cluster.yaml')),
        client: { bytes } as unknown as InternalClient,
        health: new Health(() => 0, UNTIL_IT_ANSWERS),
      }),
  );
  for (const down of [[], ['o2'], ['o2', 'o5'], ['o2', 'o5', 'o7']]) {
    silent.clear();
    for (const id of down) silent.add(id);
    for (const proxy of proxies) for (const id of ids) await proxy.probe(id);
    for (let index = 0; index < 30; index++) {
      const key = `key ${index}`;
      const { candidates } = proxies[0]!.placement(key);
      const expected = [
        ...candidates.filter((id) => !silent.has(id)),
        ...candidates.filter((id) => silent.has(id)),
      ];
      for (const proxy of proxies) t.same(proxy.tries(key), expected, `${key}, down ${down}`);
    }
  }
});
