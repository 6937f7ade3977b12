import { CodedError } from '@sepia/base/errors';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { Cluster } from '@sepia/cluster/cluster';
import { parseClusterDocument } from '@sepia/cluster/load-document';
import type { InternalClient } from '@sepia/http/client';
import type { UpstreamClient } from '@sepia/upstream/upstream-client';
import t from 'tap';
import { AccessClient } from '../../src/cluster/access-client.ts';
import { CallWatch } from '../../src/cluster/members.ts';
import type { SourceGate } from '../../src/source/source-gate.ts';

const NOW_MS = 1_000_000;
const DOCUMENT = `
version: 1
members: [{ id: origin-1, role: origin, urls: ['http://127.0.0.1:1'], peers: ['127.0.0.1:2'] }]
upstreams: [{ name: up, url: 'http://127.0.0.1:3', mode: pull-through }]
`;

/** The whole cluster is silent; the upstream lets everybody in, unless it answers otherwise. */
function alone(listTags: () => Promise<unknown> = async () => ({})): AccessClient {
  const silent = async (): Promise<never> => {
    throw new CodedError('PEER_HTTP');
  };
  const upstream = {
    listTags,
    authorizer: () => ({}),
    own: { challenge: () => undefined },
  } as unknown as UpstreamClient;
  const nowMs = (): number => NOW_MS;
  return new AccessClient(
    {
      cluster: new Cluster(parseClusterDocument(DOCUMENT, 'cluster.yaml')),
      client: { bytes: silent, raw: silent } as unknown as InternalClient,
      health: new CallWatch(nowMs),
      gate: { note: () => undefined, silentForMs: () => 60_000 } as unknown as SourceGate,
      upstreamClient: () => upstream,
      nodeId: 'agent-1',
      nowMs,
      dateMs: nowMs,
    },
    { backToSource: { mode: 'auto', afterMs: 0 } },
  );
}

t.test('an agent alone believes a token no longer than to its end', async (t) => {
  const jwt = `x.${Buffer.from(JSON.stringify({ exp: (NOW_MS + 2_000) / 1_000 })).toString('base64url')}.y`;
  const name = { upstream: 'up', repository: parseRepositoryName('a/b') };
  const check = async (authorization: string) =>
    await alone().check(name, { kind: 'repository' }, authorization);
  t.same(await check(`Bearer ${jwt}`), { verdict: 'granted', ttlMs: 2_000 });
  t.same(await check('Bearer opaque'), { verdict: 'granted', ttlMs: 10_000 });
  t.same(await check('Basic YTpi'), { verdict: 'granted', ttlMs: 60_000 });
});

t.test('an agent alone asks to log in only where that could help', async (t) => {
  const name = { upstream: 'up', repository: parseRepositoryName('a/b') };
  const check = async (detail: object) => {
    const refuses = async (): Promise<never> => {
      throw new CodedError('UPSTREAM_DENIED', { detail: { ...detail } });
    };
    return await alone(refuses).check(name, { kind: 'repository' }, undefined);
  };
  t.match(await check({ status: 401 }), { verdict: 'challenge' });
  await t.rejects(check({ status: 451, reason: 'request-refused' }), { code: 'UPSTREAM_DENIED' });
});
