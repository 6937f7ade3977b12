import { CodedError } from '@sepia/base/errors';
import { Cluster } from '@sepia/cluster/cluster';
import { parseClusterDocument } from '@sepia/cluster/load-document';
import t from 'tap';
import { beginCollection } from '../../src/commands/gc.ts';
import type { Operator } from '../../src/operator/operator.ts';

t.test('an origin that hangs leads no collection, not even when it wakes', async (t) => {
  const document = {
    version: 1,
    members: ['origin-1', 'origin-2', 'origin-3'].map((id, at) => ({
      ...{ id, role: 'origin', urls: [`http://127.0.0.1:${at + 1}`], peers: [`127.0.0.1:${at + 11}`] },
    })),
    upstreams: [{ name: 'local', mode: 'none' }],
  };
  const cluster = new Cluster(parseClusterDocument(JSON.stringify(document), 'test'));
  const [hangs, next] = cluster.origins('gc').order;
  const asked: string[] = [];
  const ask = async (id: string, { method }: { method: string }): Promise<unknown> => {
    asked.push(`${method} ${id}`);
    if (id === hangs) throw new CodedError('PEER_HTTP', { message: 'no answer in time' });
    return method === 'POST' ? { leader: id } : {};
  };
  const operator = { cluster, ask } as unknown as Operator;
  t.match(await beginCollection(operator, { dryRun: false, graceMs: 0 }), { leader: next });
  t.same(asked, [`GET ${hangs}`, `GET ${next}`, `POST ${next}`]);
});
