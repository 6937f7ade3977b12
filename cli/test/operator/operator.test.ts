import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { CodedError } from '@sepia/base/errors';
import { Cluster } from '@sepia/cluster/cluster';
import { parseClusterDocument } from '@sepia/cluster/load-document';
import { beginChange, endChange, type Membership } from '@sepia/cluster/membership';
import t, { type Test } from 'tap';
import { Operator } from '../../src/operator/operator.ts';
import { ringText } from '../../src/operator/ring-view.ts';
import { Waits } from '../../src/terminal/waits.ts';

const CALL = { method: 'GET', path: '/v1/x' } as const;

/** An operator of a cluster with these proxies; `answer` stands for them. Who was asked is in `asked`. */
function start(t: Test, proxies: readonly string[], answer: (id: string) => unknown, port = 1) {
  const document = {
    version: 1,
    members: [
      { id: 'origin-1', role: 'origin', urls: [`http://127.0.0.1:${port}`], peers: ['127.0.0.1:2'] },
      ...proxies.map((id, at) => ({ id, role: 'proxy', urls: [`http://127.0.0.1:${at + 3}`] })),
    ],
    upstreams: [{ name: 'local', mode: 'none' }],
  };
  const cluster = new Cluster(parseClusterDocument(JSON.stringify(document), 'test'));
  const operator = new Operator(cluster, Buffer.alloc(32));
  t.teardown(() => operator.close());
  const asked: string[] = [];
  operator.ask = async <T>(id: string): Promise<T> => {
    asked.push(id);
    return answer(id) as T;
  };
  return { operator, asked };
}

t.test('proxies are asked in turn; what one answers is told as it is', async (t) => {
  const silent = new CodedError('PEER_HTTP', { message: 'silent' });
  const two = ['proxy-1', 'proxy-2'];
  const second = start(t, two, (id) => {
    if (id === 'proxy-1') throw silent;
    return 'said';
  });
  t.equal(await second.operator.askProxy(CALL), 'said');
  t.same(second.asked, two);

  const none = /no proxy of the cluster answers/;
  const nobody = start(t, two, () => {
    throw silent;
  });
  await t.rejects(nobody.operator.askProxy(CALL), { code: 'NO_PEERS', message: none, cause: silent });
  await t.rejects(start(t, [], () => 1).operator.askProxy(CALL), { code: 'NO_PEERS', message: none });

  const refused = new CodedError('NO_PEERS', { message: 'no origin has it' });
  const refusing = start(t, two, () => {
    throw refused;
  });
  await t.rejects(refusing.operator.askProxy(CALL), refused);
  t.same(refusing.asked, ['proxy-1'], 'another would say the same');
});

t.test('the ring that most origins name is shown, and who names another', async (t) => {
  const { operator } = start(t, [], () => 1);
  const member = (id: string) => ({
    id,
    role: 'origin' as const,
    urls: ['http://x:1'],
    peers: [],
    weight: 1,
    state: 'active' as const,
  });
  const founded = (...ids: string[]): Membership => ({ v: 1, epoch: 0, origins: ids.map(member) });
  const drained = (ring: Membership, id: string): Membership =>
    endChange(beginChange(ring, { action: 'drain', ids: [id] }));
  const own = drained(founded('origin-1', 'origin-2', 'origin-3'), 'origin-3');
  const other = drained(drained(founded('origin-1', 'origin-2', 'origin-9'), 'origin-9'), 'origin-1');
  operator.cluster.follow(own);
  operator.ask = async <T>(id: string): Promise<T> =>
    ({ founded: true, membership: id === 'origin-2' ? other : own }) as T;
  await operator.follow(true);
  t.same(operator.cluster.membership, own);
  t.match(operator.otherRings, [{ by: 'origin-2', membership: { epoch: 4 } }]);
  const text = ringText({ membership: own, statuses: [], otherRings: operator.otherRings });
  t.match(text, /\nEpoch 2; no change is under way\.\norigin-2 is of another ring \(epoch 4: .*origin-9/);
  t.notMatch(text, /part of the change/);
});

t.test('while the ring changes each origin has a bar for its part', async (t) => {
  const member = { role: 'origin' as const, urls: ['http://x:1'], peers: [], weight: 1 };
  const origins = ['origin-1', 'origin-2'].map((id) => ({ ...member, id, state: 'active' as const }));
  const membership = beginChange({ v: 1, epoch: 0, origins }, { action: 'drain', ids: ['origin-2'] });
  const status = { epoch: 1, generation: 1, isSettled: true, hasLed: 0, registers: 0, blobsOwed: 0 };
  const of = { ...status, copiesOwed: 0, share: 0.5 };
  const statuses = [
    { ...of, id: 'origin-1', isDone: true },
    { ...of, id: 'origin-2', isDone: false, share: 1 },
  ];
  const lines = ringText({ membership, statuses, otherRings: [] }).split('\n');
  t.match(lines[3], /│ origin-1 │ active +│ +1 │ done +│/);
  t.match(lines[4], /│ origin-2 │ draining │ +1 │ █{12} 100 % │/);
});

t.test('whoever waits for a member is told so', async (t) => {
  const told = Promise.withResolvers<string>();
  const server = createServer(async (_request, response) => {
    response.end(JSON.stringify({ waitedFor: await told.promise }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const { port } = server.address() as AddressInfo;
  const { cluster } = start(t, [], () => 1, port).operator;
  const write = (line: string): boolean => {
    told.resolve(line);
    return true;
  };
  const waits = new Waits({ isTTY: true, write }, 0);
  await using own = new Operator(cluster, Buffer.alloc(32), [], waits);
  const call = { ...CALL, headersTimeoutMs: 20_000 };
  t.same(await own.ask('origin-1', call), { waitedFor: 'Waiting for origin-1, up to 20.0 s …\n' });
});

t.test('an image named through an agent is of the default upstream, as to that agent', async (t) => {
  const { operator } = start(t, [], () => 1);
  const cluster = operator.cluster;
  await using own = new Operator(cluster, Buffer.alloc(32), ['127.0.0.1:17000']);
  const name = { upstream: 'local', repository: 'team/app', reference: '1' };
  for (const host of ['127.0.0.1:17000/', 'localhost:17000/', ''])
    t.same(own.nameOf(`${host}team/app:1`), name, host);
  t.throws(() => own.nameOf('127.0.0.1:17010/team/app:1'), { code: 'UPSTREAM_UNKNOWN' });
  t.throws(() => operator.nameOf('127.0.0.1:17000/team/app:1'), { code: 'UPSTREAM_UNKNOWN' });
});
