import { Health, type Rest } from '@sepia/cluster/core/health';
import { diallingOf } from '@sepia/cluster/member-config';
import { InternalClient } from '@sepia/http/client';
import { createDispatcher, createMemberSockets } from '@sepia/http/sockets';
import { listenForPeers, memberEngine } from '@sepia/swarm/shell/member-engine';
import { namesToFetchWith } from './access/names-to-fetch-with.ts';
import { PrivateRepositories } from './access/private-repositories.ts';
import { Sessions } from './access/sessions.ts';
import { Members } from './cluster/members.ts';
import { CONNECT_MS, FAILED_REST_MS, MAX_FAILED_REST_MS } from './deadlines/members.ts';
import type { Ground } from './ground.ts';
import { Upstreams } from './upstream/upstreams.ts';

/** Sockets to each member for the question whether it lives. */
const PROBE_CONNECTIONS = 2;
/** How long a member that failed is passed over. */
const REST: Rest = { firstMs: FAILED_REST_MS, maxMs: MAX_FAILED_REST_MS };

/** The clients of an origin: of other members, of upstreams, of the swarm. */
export type Outside = Awaited<ReturnType<typeof reachOut>>;

/** Second: the other members, the upstreams, the swarm. @throws {CodedError} `CONFIG_INVALID`, `START_FAILED` */
export async function reachOut(ground: Ground) {
  const { given, pace, clock, nowMs, dateMs, backends, recordEngine } = ground;
  const { config, cluster, clusterKey, selfId, log, stops, env } = given;
  const dialling = diallingOf(cluster, clusterKey, log);
  const reached = { connectTimeoutMs: CONNECT_MS, ...dialling };
  const { sockets, destroy } = createMemberSockets(reached);
  const probes = createDispatcher({ ...reached, connections: PROBE_CONNECTIONS });
  const health = new Health(nowMs, REST);
  const own = { clusterKey, memberId: selfId, clock, oldSignatures: config['old-signatures'] };
  const client = new InternalClient({ ...own, ...sockets });
  const prober = new InternalClient({ ...own, dispatcher: probes });
  const records = config.records.engine;
  const members = new Members({ cluster, selfId, client, prober, health, nowMs, records });
  const recordMembers = recordEngine.seenBy(members);
  const sessions = new Sessions({ nowMs, dateMs });
  const privates = new PrivateRepositories(nowMs);
  const identities = { credentials: config.credentials, env };
  const upstreams = new Upstreams(
    {
      ...{ cluster, backends, log, nowMs, dateMs },
      ...identities,
      names: (...of) => namesToFetchWith({ members, sessions, privates }, ...of),
    },
    pace,
  );
  stops.push('upstreams', async () => await upstreams.close());
  stops.push('sockets', destroy);
  stops.push('sockets of probes', async () => await probes.destroy());
  const { policies } = cluster.document;
  const engine = memberEngine(
    { clusterKey, log, policies, encryption: dialling.encryption },
    { id: selfId, zone: config.zone, origin: true },
  );
  stops.push('swarm engine', async () => await engine.stop());
  const peerAddresses = await listenForPeers(engine, config['peer-listen']);
  return {
    ...{ client, health, members, recordMembers, upstreams, sessions, privates, identities },
    ...{ engine, peerAddresses, encryption: dialling.encryption },
  };
}
