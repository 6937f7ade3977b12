import { openAudit } from '@sepia/base/audit';
import { DOCKER_HUB_HOSTS, isDockerHub } from '@sepia/base/names/upstream-name';
import { AGENT_OF_NODE } from '@sepia/cluster/api/lazy-offers';
import type { Cluster } from '@sepia/cluster/cluster';
import { withOwnHosts } from '@sepia/face/own-hosts';
import { createRegistryApp } from '@sepia/face/registry-app';
import { createGate } from '@sepia/http/gate';
import { HttpListener } from '@sepia/http/listener';
import { OPEN_ROUTES } from '@sepia/http/open-routes';
import { createRouter, routesOf } from '@sepia/http/router';
import { CallVerifier } from '@sepia/http/sign';
import { listenerTls } from '@sepia/http/tls/listener-tls';
import type Koa from 'koa';
import { AccessClient } from './cluster/access-client.ts';
import { ProxyClient } from './cluster/proxy-client.ts';
import { STOP_GRACE_MS } from './deadlines.ts';
import { entranceOf } from './entrance.ts';
import type { Ground, Outside } from './ground.ts';
import { backToSource, type Holdings } from './holdings.ts';
import { agentHandlers } from './http/handlers.ts';
import { FormerImages } from './lazy/former-images.ts';
import { LazyImages } from './lazy/lazy-images.ts';
import { Offers } from './lazy/offers.ts';
import { lazyRoutes } from './lazy/routes.ts';

/** The registry endpoints of an agent. */
export interface Face {
  readonly listeners: readonly HttpListener[];
  /** App of each. */
  readonly apps: readonly Koa[];
}

/** Starts a registry endpoint for each listener of the config. @throws {CodedError} `CONFIG_INVALID`, `START_FAILED` */
export async function startFace(
  ground: Ground,
  outside: Outside,
  holdings: Holdings,
  { offers, lazy }: LazySide,
): Promise<Face> {
  const { config, cluster, log, metrics, stops } = ground;
  const doorOf = entrance(ground, outside);
  const proxyUrls = cluster.members('proxy').map((proxy) => proxy.urls[0]!);
  const forNode = snapshotterSide(ground);
  const handlers = handlersOf(ground, holdings, lazy);
  const apps: Koa[] = [];
  const listeners: HttpListener[] = [];
  const upstreams = ownUpstreams(ground, listeners);
  for (const [index, one] of config.listeners.entries()) {
    const { listen, 'default-upstream': defaultUpstream = cluster.defaultUpstream } = one;
    const { 'public-url': publicUrl, 'trusted-proxies': trustedProxies } = one;
    const app = createRegistryApp(
      {
        log,
        gate: createGate({
          open: OPEN_ROUTES.agent,
          hosts: () => ownNames(upstreams(), publicUrl),
          ...forNode,
        }),
        onRequest: metrics.onRequest,
        handlers,
        other: lazyRouter(offers, lazy),
        upstreams,
        door: doorOf(upstreams, { defaultUpstream, publicUrl }),
      },
      {
        defaultUpstream,
        readOnly: `an agent takes no writes; push to a proxy: ${proxyUrls.join(' or ')}`,
        trustedProxies,
      },
    );
    apps.push(app);
    const tls = listenerTls(ground, { files: one.tls, key: `listeners.${index}.tls` });
    const listener = await HttpListener.start(app.callback(), listen, `listeners.${index}.listen`, { tls });
    listeners.push(listener);
    stops.push('listener', () => listener.stop(STOP_GRACE_MS));
  }
  return { listeners, apps };
}

/** Makes the door of each listener. */
function entrance(ground: Ground, outside: Outside): ReturnType<typeof entranceOf> {
  const { config, nodeId, log, stops } = ground;
  const audit = openAudit({ service: 'agent', id: nodeId, log }, config['audit-log']);
  stops.push('audit log', () => audit.close());
  const asking = new AccessClient({ ...ground, ...outside }, { backToSource: backToSource(config) });
  return entranceOf({ ...ground, asking, audit });
}

/** The agent's side of lazy starts: offers to the node's snapshotter, and the images that may be lazy. */
interface LazySide {
  readonly offers: Offers;
  readonly lazy: LazyImages;
}

/** Opens what the node's snapshotter and its images need; nobody is asked yet. */
export function openLazySide(ground: Ground, outside: Outside): LazySide {
  const offers = new Offers(ground);
  ground.metrics.gauge(
    'sepia_agent_snapshotter_asks',
    '1 while the snapshotter of this node asks what is pulled.',
    () => (offers.isServed ? 1 : 0),
  );
  const proxies = new ProxyClient({ ...ground, ...outside });
  const former = new FormerImages(ground);
  return {
    offers,
    lazy: new LazyImages({ ...ground, proxies, offers, former }, { waitMs: ground.config['lazy-wait'] }),
  };
}

function handlersOf(
  { config, bytes }: Ground,
  { blobs, manifests, links }: Holdings,
  lazy: LazyImages,
): ReturnType<typeof agentHandlers> {
  return agentHandlers({
    lazy,
    blobs,
    manifests,
    links,
    onCacheBytes: (count) => bytes.inc({ source: 'cache' }, count),
    firstPieceMs: config.deadlines['first-piece'],
    stallMs: config.deadlines['body-stall'],
  });
}

/** The upstreams, by the agent's own addresses too; `listening`: the listeners that were started, by then. */
function ownUpstreams({ config, cluster }: Ground, listening: readonly HttpListener[]) {
  let [known, started] = [cluster.upstreams, -1];
  return (): typeof cluster.upstreams => {
    if (started !== listening.length) {
      started = listening.length;
      const bound = listening.map(({ hostPort }, index) => ({
        ...config.listeners[index],
        listen: hostPort,
      }));
      known = withOwnHosts(cluster.upstreams, cluster.defaultUpstream, [...config.listeners, ...bound]);
    }
    return known;
  };
}

/** Names by which this agent is asked: those of its upstreams, and its own public one. */
function* ownNames(upstreams: Cluster['upstreams'], publicUrl: string | undefined): Generator<string> {
  for (const url of [publicUrl, ...upstreams.map((one) => one.url)])
    if (url !== undefined) yield new URL(url).host;
  for (const { hosts } of upstreams) yield* hosts;
  if (upstreams.some(isDockerHub)) yield* DOCKER_HUB_HOSTS;
}

/** The verifier for calls of the snapshotter: signed with the node's secret. Without a secret nobody may call. */
function snapshotterSide({ nodeSecret, log }: Ground): { verifier?: CallVerifier } {
  if (nodeSecret === undefined) return {};
  return { verifier: new CallVerifier({ clusterKey: nodeSecret, selfId: AGENT_OF_NODE, log }) };
}

function lazyRouter(offers: Offers, images: LazyImages): Koa.Middleware {
  const router = createRouter();
  lazyRoutes(router, offers, images);
  return routesOf(router);
}
