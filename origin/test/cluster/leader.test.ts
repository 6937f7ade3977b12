import { CodedError } from '@sepia/base/errors';
import { Cluster } from '@sepia/cluster/cluster';
import { Health, UNTIL_IT_ANSWERS } from '@sepia/cluster/core/health';
import { parseClusterDocument } from '@sepia/cluster/load-document';
import type { InternalClient } from '@sepia/http/client';
import t from 'tap';
import { Members } from '../../src/cluster/members.ts';

const IDS = ['o1', 'o2', 'o3', 'o4', 'o5', 'o6', 'o7'];
const KEYS = Array.from({ length: 30 }, (_, index) => `key ${index}`);
const UPSTREAMS = [{ name: 'local', mode: 'none', hosts: [] }];

/** Seven origins, each as it sees the others. Those in `silent` answer nobody. */
function world() {
  const members = IDS.map((id) => ({ id, role: 'origin', urls: [`http://127.0.0.1:${id.slice(1)}`] }));
  const text = JSON.stringify({ version: 1, members, upstreams: UPSTREAMS });
  const silent = new Set<string>();
  const raw = async ({ to }: { to: string }) => {
    if (silent.has(to)) throw new CodedError('PEER_HTTP', { message: 'no answer' });
    return { status: 200, headers: {}, body: {} };
  };
  const nowMs = (): number => 0;
  const origins = IDS.map(
    (selfId) =>
      new Members({
        cluster: new Cluster(parseClusterDocument(text, 'cluster.yaml')),
        selfId,
        client: { raw } as unknown as InternalClient,
        health: new Health(nowMs, UNTIL_IT_ANSWERS),
        nowMs,
      }),
  );
  /** Each origin asks each once; what they hear is what they believe. */
  const askAround = async (): Promise<void> => {
    for (const origin of origins)
      for (const id of IDS) await origin.raw(id, { method: 'GET', path: '/' }).catch(() => undefined);
  };
  return { origins, silent, askAround };
}

t.test('origins that hear the same name the same leader, which answers', async (t) => {
  const { origins, silent, askAround } = world();
  for (const down of [[], ['o3'], ['o3', 'o6'], ['o1', 'o3', 'o6']]) {
    silent.clear();
    for (const id of down) silent.add(id);
    await askAround();
    const awake = origins.filter(({ selfId }) => !silent.has(selfId));
    for (const key of KEYS) {
      const { owners } = awake[0]!.placement(key);
      const expected = owners.find((id) => !silent.has(id)) ?? owners[0];
      t.same(
        new Set(awake.map((origin) => origin.leaderOf(key))),
        new Set([expected]),
        `${key}, down ${down}`,
      );
    }
  }
});

t.test('an origin whose own address does not answer it does not pass itself over', async (t) => {
  const { origins, silent, askAround } = world();
  const [own] = origins;
  silent.add('o1');
  await askAround();
  t.notOk(own!.isSuspect('o1'));
  t.ok(origins[1]!.isSuspect('o1'));
  const key = KEYS.find((one) => own!.placement(one).owners[0] === 'o1')!;
  t.equal(own!.leaderOf(key), 'o1');
  t.equal(own!.tries(key)[0], 'o1');
  t.not(origins[1]!.leaderOf(key), 'o1');
});
