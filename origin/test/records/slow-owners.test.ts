import { digestOf } from '@sepia/base/digest';
import { delay } from '@sepia/base/lifecycle';
import { parseRepositoryName, parseTag } from '@sepia/base/names/repository';
import { shardKey } from '@sepia/cluster/cluster';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { ungenerated } from '@sepia/records/core/standing';
import { AcceptorStore } from '@sepia/records/register/acceptor-store';
import {
  type AcceptorState,
  acceptorStep,
  EMPTY_ACCEPTOR,
  type RegisterReply,
  type RegisterRequest,
} from '@sepia/records/register/register';
import { LevelTable } from '@sepia/records/table/level-table';
import { VirtualTime } from '@sepia/test-support/virtual-time';
import t, { type Test } from 'tap';
import { Tags } from '../../src/records/tags.ts';
import type { TagRules } from '../../src/upstream/core/tag-policy.ts';
import { startCluster } from '../support/cluster.ts';

const IDS = ['o1', 'o2', 'o3'];
const NAME = { upstream: 'local', repository: parseRepositoryName('team/app'), tag: parseTag('v1') };
const RULES: TagRules = { mode: 'none', policy: 'mutable', ttlMs: 0, staleLimitMs: 0 };
/** Longer than a small question may take, shorter than one with patience. */
const SLOW_MS = 1_200;
const [ONE, TWO] = [digestOf(Buffer.from('one')), digestOf(Buffer.from('two'))];

/** Tags of origin o1, whose owners each take `tookMs` for an answer, under a virtual clock. */
function slowTags(t: Test, tookMs: number) {
  const time = new VirtualTime().install();
  t.teardown(() => time.uninstall());
  const states = new Map<string, AcceptorState>();
  const answer = async (id: string, request: RegisterRequest): Promise<RegisterReply> => {
    const { next, reply } = acceptorStep(states.get(id) ?? EMPTY_ACCEPTOR, request);
    states.set(id, next);
    await delay(tookMs);
    return reply;
  };
  const sender = (id: string) => ({ id, generation: 0, known: {} });
  const deps = {
    members: {
      selfId: 'o1',
      shard: () => ({ epoch: 0, sets: [IDS] }),
      isSuspect: () => false,
      isGone: () => false,
      counted: async (id: string, { json }: { readonly json: RegisterRequest }) => ({
        sender: sender(id),
        answer: await answer(id, json),
      }),
    },
    records: { registers: { handle: async (request: RegisterRequest) => await answer('o1', request) } },
    standing: { require: () => undefined, sender: sender('o1'), standing: ungenerated('o1') },
    nowMs: () => performance.now(),
    dateMs: () => Date.now(),
  };
  return { time, tags: new Tags(deps as unknown as ConstructorParameters<typeof Tags>[0]) };
}

t.test(
  'where all owners are slow, what nobody has another way for is done, and nothing else waits',
  async (t) => {
    const { time, tags } = slowTags(t, 3_000);
    const lost = { code: 'QUORUM_LOST' };
    await time.settle(tags.move(NAME, ONE, RULES, 'push'));
    const pulled = tags.move(NAME, TWO, { ...RULES, mode: 'pull-through' }, 'revalidate');
    await t.rejects(time.settle(pulled), lost, 'the registry behind has answered');
    await t.rejects(time.settle(tags.drop(NAME, { digest: ONE, checkedAtMs: 1e15 })), lost, 'so it has here');
    await t.rejects(time.settle(tags.state(NAME)), lost, 'it may be asked');
    await time.settle(tags.move(NAME, TWO, RULES, 'set'));
    t.match(await time.settle(tags.read(NAME, { isPatient: true })), { digest: TWO });
    t.equal(await time.settle(tags.delete(NAME)), true);
    t.equal(await time.settle(tags.read(NAME, { isPatient: true })), undefined);
  },
);

/** From now on each change of a record in this process, and each answer about a tag, takes more than a second. */
function slowDisks(t: Test): void {
  const { change } = LevelTable.prototype;
  const { handle } = AcceptorStore.prototype;
  t.teardown(() => {
    Object.assign(LevelTable.prototype, { change });
    Object.assign(AcceptorStore.prototype, { handle });
  });
  LevelTable.prototype.change = async function <A>(
    this: LevelTable,
    ...asked: Parameters<typeof change<A>>
  ): Promise<A> {
    const answer = await (change<A>).apply(this, asked);
    await delay(SLOW_MS);
    return answer;
  };
  AcceptorStore.prototype.handle = async function (this: AcceptorStore, request: RegisterRequest) {
    if (request.type === 'read') await delay(SLOW_MS);
    return await handle.call(this, request);
  };
}

t.test('a tag is pushed, read and deleted where all origins have slow disks', async (t) => {
  const c = await startCluster(t, { origins: 3 });
  slowDisks(t);
  const [leader = ''] = c.cluster.origins(shardKey('local', 'team/app')).order;
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, layers: [] }));
  const path = '/v1/manifests?upstream=local&repository=team/app&reference=v1';
  const pushed = await c.put(leader, path, bytes, { 'content-type': OCI_MANIFEST });
  t.equal(pushed.status, 201, pushed.bytes.toString());
  const found = await c.get(leader, path);
  t.equal(found.status, 200, found.bytes.toString());
  const deleted = await c.call(leader, { method: 'DELETE', path });
  t.ok(deleted.status < 300, deleted.bytes.toString());
  t.equal((await c.get(leader, path)).headers['sepia-error'], 'TAG_UNKNOWN');
});
