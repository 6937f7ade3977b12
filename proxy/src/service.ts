import { MemberClock } from '@sepia/base/clock/member-clock';
import { CodedError } from '@sepia/base/errors';
import { StopStack, startAll } from '@sepia/base/lifecycle';
import { createLogger, type Logger } from '@sepia/base/log';
import { steadyMs } from '@sepia/base/reach';
import { Health, UNTIL_IT_ANSWERS } from '@sepia/cluster/core/health';
import { diallingOf } from '@sepia/cluster/member-config';
import { followingClient } from '@sepia/cluster/ring-follower';
import { startAdmin } from '@sepia/http/admin';
import { HttpListener } from '@sepia/http/listener';
import { createDispatcher, createMemberSockets, type MemberDialling } from '@sepia/http/sockets';
import { listenerTls } from '@sepia/http/tls/listener-tls';
import { checkProxy } from './check.ts';
import { Origins } from './cluster/origins.ts';
import type { ProxyConfig } from './config.ts';
import { ADMIN_GRACE_MS } from './deadlines.ts';
import { openEntrance } from './entrance.ts';
import { createFace, type Face, type FaceParts } from './face.ts';
import { ProxyMetrics } from './proxy-metrics.ts';

/** Sockets to each origin at least, of each kind; an upload or download holds one while it runs. */
const CONNECTIONS = 256;
/** Sockets to each origin for the question whether it lives. */
const PROBE_CONNECTIONS = 2;

/** A running proxy. `url` is its first listener's; `urls` are all, in the order of the config. */
export interface RunningProxy {
  readonly url: string;
  readonly urls: readonly string[];
  readonly adminUrl: string;
  /** Log level and limits of a new config, at once; see `RELOADED`. */
  adjust(config: ProxyConfig): void;
  stop(): Promise<void>;
}

/** Builds and starts a proxy. Paths in `config` are absolute. @throws {CodedError} `CONFIG_INVALID`, `START_FAILED` */
export async function startProxy(
  config: ProxyConfig,
  deps: { readonly log?: Logger } = {},
): Promise<RunningProxy> {
  const { cluster, clusterKey, id } = checkProxy(config);
  const log = deps.log ?? createLogger('proxy', id, config.log.level);
  const stops = new StopStack();
  return await startAll(stops, async () => {
    const parts = createParts({ id, config, cluster, clusterKey, log }, stops);
    const face = createFace(parts, stops);
    const state: ServingState = { draining: false, limits: config.limits };
    const { urls, admin } = await serve(parts, face, state, stops);
    log.info({ listen: urls, admin: admin.hostPort, clusterVersion: cluster.version }, 'proxy is ready');
    return {
      url: urls[0]!,
      urls,
      adminUrl: admin.url,
      adjust: (next) => {
        log.level = next.log.level;
        state.limits = next.limits;
        face.adjust(next.limits);
      },
      stop: () => stops.stop(),
    };
  });
}

/** What changes while it serves. */
interface ServingState {
  draining: boolean;
  /** The limits of the config in force. */
  limits: ProxyConfig['limits'];
}

/** Beside what the face is made of: how members encrypt what they say to each other. */
type ProxyParts = FaceParts & Pick<MemberDialling, 'encryption'>;

/** What the face is made of, with what runs behind it: probes of the origins, accounts, the audit log. */
function createParts(
  given: Pick<FaceParts, 'id' | 'config' | 'cluster' | 'clusterKey' | 'log'>,
  stops: StopStack,
): ProxyParts {
  const { id, config, cluster, clusterKey, log } = given;
  const clock = new MemberClock();
  const nowMs = steadyMs;
  const dateMs = clock.nowMs;
  const dialling = diallingOf(cluster, clusterKey, log);
  // Each body that may be open at once is sent on as it comes.
  const sends = Math.max(CONNECTIONS, config.limits['open-uploads']);
  const { sockets, destroy } = createMemberSockets({ connections: CONNECTIONS, sends, ...dialling });
  stops.push('sockets', destroy);
  const probes = createDispatcher({ connections: PROBE_CONNECTIONS, ...dialling });
  stops.push('sockets of probes', () => probes.destroy());
  const own = { clusterKey, memberId: id, clock, oldSignatures: config['old-signatures'] };
  const client = followingClient(cluster, log, { ...own, ...sockets });
  const prober = followingClient(cluster, log, { ...own, dispatcher: probes });
  const health = new Health(nowMs, UNTIL_IT_ANSWERS);
  const origins = new Origins({ cluster, client, prober, health });
  const stopping = new AbortController();
  const entrance = openEntrance({ id, config, cluster, clusterKey, client, origins, log, nowMs, dateMs });
  stops.push('audit log', () => entrance.audit.close());
  const comparing = entrance.watch(stopping.signal);
  stops.push('accounts', async () => await comparing);
  const probing = origins.watch(stopping.signal);
  stops.push('probes', async () => {
    stopping.abort(new CodedError('DRAINING'));
    await probing;
  });
  const metrics = new ProxyMetrics(id);
  const { encryption } = dialling;
  return {
    ...given,
    encryption,
    client,
    origins,
    clock,
    nowMs,
    dateMs,
    startedMs: nowMs(),
    metrics,
    entrance,
  };
}

/** Opens the listeners and the admin port; stops drain them first. */
async function serve(
  { config, encryption, log, clock, nowMs, metrics, origins }: ProxyParts,
  face: Face,
  state: ServingState,
  stops: StopStack,
): Promise<{ readonly urls: readonly string[]; readonly admin: HttpListener }> {
  const apps = config.listeners.map((one) => face.app(one));
  const listeners: HttpListener[] = [];
  for (const [index, one] of config.listeners.entries()) {
    const at = `listeners.${index}`;
    const tls = listenerTls({ log, nowMs }, { files: one.tls, key: `${at}.tls`, encryption });
    const listener = await HttpListener.start(apps[index]!.callback(), one.listen, `${at}.listen`, { tls });
    listeners.push(listener);
    stops.push(`listener ${one.listen}`, () => listener.stop(0));
  }
  const notReady = (): string | undefined => (state.draining ? 'stopping' : origins.lack());
  const admin = await startAdmin(
    { log, metrics: metrics.base, app: apps[0]!, notReady, clock, debug: face.debug },
    config['admin-listen'],
  );
  stops.push('admin', () => admin.stop(ADMIN_GRACE_MS));
  stops.push('drain', async () => {
    state.draining = true;
    await Promise.all(listeners.map((listener) => listener.stop(state.limits.drain)));
  });
  return { urls: listeners.map((listener) => listener.url), admin };
}
