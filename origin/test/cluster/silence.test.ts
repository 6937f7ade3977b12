import { Cluster } from '@sepia/cluster/cluster';
import { Health, UNTIL_IT_ANSWERS } from '@sepia/cluster/core/health';
import { parseClusterDocument } from '@sepia/cluster/load-document';
import type { InternalClient, InternalRequest } from '@sepia/http/client';
import t from 'tap';
import { Members } from '../../src/cluster/members.ts';

/** Origin o1, whose calls to o2 are never answered: true if one that is aborted after so long makes o2 a suspect. */
async function isHeldAgainst(
  afterMs: number,
  call: { readonly headersTimeoutMs?: number; readonly silentMs?: number } = {},
): Promise<boolean> {
  const members = ['o1', 'o2'].map((id) => ({
    ...{ id, role: 'origin' },
    urls: [`http://127.0.0.1:${id.slice(1)}`],
  }));
  const upstreams = [{ name: 'local', mode: 'none', hosts: [] }];
  const text = JSON.stringify({ version: 1, members, upstreams });
  const cluster = new Cluster(parseClusterDocument(text, 'cluster.yaml'));
  let timeMs = 0;
  const nowMs = (): number => timeMs;
  const raw = async ({ signal }: InternalRequest): Promise<never> =>
    await new Promise((_, reject) => signal?.addEventListener('abort', () => reject(signal.reason)));
  const client = { raw } as unknown as InternalClient;
  const health = new Health(nowMs, UNTIL_IT_ANSWERS);
  const origins = new Members({ cluster, selfId: 'o1', client, health, nowMs });
  const abort = new AbortController();
  const asked = origins.raw('o2', { method: 'GET', path: '/', signal: abort.signal, ...call });
  timeMs = afterMs;
  abort.abort(new Error('enough'));
  await t.rejects(asked, { message: 'enough' });
  return origins.isSuspect('o2');
}

t.test(
  'who says nothing to a small question, or to one with patience, until it is given up, failed',
  async (t) => {
    t.notOk(await isHeldAgainst(399));
    t.ok(await isHeldAgainst(400));
    t.notOk(await isHeldAgainst(4_000, { headersTimeoutMs: 8_000 }), 'it may take long');
    t.ok(await isHeldAgainst(4_000, { headersTimeoutMs: 8_000, silentMs: 400 }));
  },
);
