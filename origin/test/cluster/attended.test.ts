import { CodedError } from '@sepia/base/errors';
import { Cluster } from '@sepia/cluster/cluster';
import { Health, UNTIL_IT_ANSWERS } from '@sepia/cluster/core/health';
import { parseClusterDocument } from '@sepia/cluster/load-document';
import type { InternalClient } from '@sepia/http/client';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { Members } from '../../src/cluster/members.ts';

/** Origin o1 and what it asks o2, which answers small questions as `isSilent` says by their number. */
function world(isSilent: (asked: number) => boolean) {
  const members = ['o1', 'o2'].map((id) => ({
    id,
    role: 'origin',
    urls: [`http://127.0.0.1:${id.slice(1)}`],
  }));
  const upstreams = [{ name: 'local', mode: 'none', hosts: [] }];
  const cluster = new Cluster(
    parseClusterDocument(JSON.stringify({ version: 1, members, upstreams }), 'cluster.yaml'),
  );
  const asked = { count: 0 };
  const raw = async () => {
    asked.count += 1;
    if (isSilent(asked.count)) throw new CodedError('PEER_HTTP', { message: 'no answer' });
    return { status: 200, headers: {}, body: { dump: async () => undefined } };
  };
  const client = { raw } as unknown as InternalClient;
  const nowMs = (): number => performance.now();
  return {
    asked,
    origins: new Members({
      cluster,
      selfId: 'o1',
      client,
      health: new Health(nowMs, UNTIL_IT_ANSWERS),
      nowMs,
    }),
  };
}

t.test('a long call outlives small questions that a busy member misses, one at a time', async (t) => {
  const { asked, origins } = world((count) => count % 2 === 1);
  const call = async (signal: AbortSignal): Promise<string> => {
    await until(() => asked.count >= 4 || signal.aborted, 'asked four times', 30_000);
    signal.throwIfAborted();
    return 'answered';
  };
  t.equal(await origins.attended('o2', call), 'answered');
});

t.test('it is given up when two in a row are missed', async (t) => {
  const { asked, origins } = world(() => true);
  const call = async (signal: AbortSignal): Promise<void> =>
    await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  await t.rejects(origins.attended('o2', call), { code: 'PEER_HTTP' });
  t.equal(asked.count, 2);
});
