import { chance } from '@sepia/base/clock/chance';
import type { MemberClock } from '@sepia/base/clock/member-clock';
import type { StopStack } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { forgetsAtRest } from '@sepia/base/memory/at-rest';
import { withinMemory } from '@sepia/base/memory/process-memory';
import type { Cluster } from '@sepia/cluster/cluster';
import { withOwnHosts } from '@sepia/face/own-hosts';
import { createRegistryApp, type RegistryWriteHandlers } from '@sepia/face/registry-app';
import type { InternalClient } from '@sepia/http/client';
import { createMemberGate } from '@sepia/http/member-gate';
import { createRouter, routesOf } from '@sepia/http/router';
import type Koa from 'koa';
import { memberLoginRoutes } from './accounts/member-token.ts';
import type { Origins } from './cluster/origins.ts';
import type { ProxyConfig } from './config.ts';
import { conversionRoutes } from './conversions/routes.ts';
import type { Entrance } from './entrance.ts';
import { createHarbor } from './harbor/parts.ts';
import { harborGuards, harborRoutes } from './harbor/routes.ts';
import { LayerBindings } from './layers/layer-bindings.ts';
import { layerRoutes, profileRoutes } from './layers/routes.ts';
import { StartProfiles } from './layers/start-profiles.ts';
import { OWN_VERSION, pageRoutes } from './page/page.ts';
import { type OwnStatus, StatusGatherer } from './page/status.ts';
import type { ProxyMetrics } from './proxy-metrics.ts';
import { beforePush } from './registry/before-push.ts';
import { readBlob } from './registry/blobs.ts';
import { listCatalog } from './registry/catalog.ts';
import { createManifestCache, type ManifestCache } from './registry/core/manifest-cache.ts';
import { deleteBlob, deleteManifest } from './registry/deletes.ts';
import { putManifest, readManifest } from './registry/manifests.ts';
import { PushGate, placeLimits } from './registry/push-gate.ts';
import { RateGate } from './registry/rate-gate.ts';
import { listReferrers } from './registry/referrers.ts';
import { revocationRoute } from './registry/revocations.ts';
import { listTags } from './registry/tags.ts';
import { Uploads } from './registry/upload-sessions.ts';
import { appendUpload, cancelUpload, finishUpload, startUpload, uploadStatus } from './registry/uploads.ts';

/** What the face is built from. */
export interface FaceParts {
  readonly id: string;
  readonly config: ProxyConfig;
  readonly cluster: Cluster;
  readonly client: InternalClient;
  readonly clusterKey: Uint8Array;
  readonly origins: Origins;
  readonly log: Logger;
  readonly clock: MemberClock;
  readonly nowMs: () => number;
  /** The cluster's date, which may be set. */
  readonly dateMs: () => number;
  readonly startedMs: number;
  readonly metrics: ProxyMetrics;
  readonly entrance: Entrance;
}

/** One app per listener over the same parts. */
export interface Face {
  app(listener: ProxyConfig['listeners'][number]): Koa;
  readonly debug: Readonly<Record<string, () => unknown>>;
  /** New limits, for what comes from now on. */
  adjust(limits: ProxyConfig['limits']): void;
}

/** Wires handlers, page and metrics of a proxy. */
export function createFace(parts: FaceParts, stops: StopStack): Face {
  const { config, cluster, clusterKey, origins, log, nowMs, dateMs, metrics } = parts;
  const takesDeletes = (upstream: string): boolean => cluster.takesDeletes(upstream);
  const kept = withinMemory(config.limits['manifest-cache']);
  const cache = forgetsAtRest(createManifestCache(kept, takesDeletes));
  const gate = new PushGate({ cluster }, placeLimits(config.limits));
  const uploads = new Uploads({ origins, random: chance }, { idleMs: config.limits['upload-idle'] });
  const rate = new RateGate({ nowMs }, { perSecond: config.limits['requests-per-second'] });
  const { admit } = rate;
  const own = (): OwnStatus => ({
    id: parts.id,
    version: OWN_VERSION,
    uptimeSeconds: Math.round((nowMs() - parts.startedMs) / 1000),
    ...accountsOf(parts.entrance),
  });
  const status = new StatusGatherer({ cluster, client: parts.client, own, nowMs });
  watchFace(parts, cache, gate);
  const harbor = createHarbor(parts, cache, stops);
  const entry = createMemberGate({
    role: 'proxy',
    guards: harborGuards(harbor, admit),
    clusterKey,
    selfId: parts.id,
    log,
    metrics: metrics.base,
    clock: parts.clock,
    oldSignatures: config['old-signatures'],
  });
  metrics.watch('sepia_proxy_preheat_jobs', 'Preheat jobs that run here.', () => harbor.jobs.size);
  const layers = new LayerBindings({ registers: harbor.records, origins, clusterKey, nowMs: dateMs });
  const blobs = {
    origins,
    log,
    takesDeletes,
    stallMs: config.limits['body-stall'],
    onBytes: (bytes: number) => metrics.bytesOut.inc(bytes),
    onResume: () => metrics.resumes.inc(),
  };
  const isRechecked = (upstream: string): boolean =>
    cluster.upstream(upstream)['manifest-recheck'] !== 'never';
  const manifests = { origins, cache, gate, isRechecked, nowMs };
  const named = withOwnHosts(cluster.upstreams, cluster.defaultUpstream, config.listeners);
  const upstreams = (): typeof cluster.upstreams => named;
  return {
    app: (listener) => {
      const defaultUpstream = listener['default-upstream'] ?? cluster.defaultUpstream;
      const door = parts.entrance.door(listener);
      const pushes = { uploads, gate, upstreams, defaultUpstream, log };
      const handlers = {
        manifest: beforePush('manifest', cluster, readManifest(manifests)),
        blob: beforePush('blob', cluster, readBlob(blobs)),
        tags: listTags({ origins }),
        referrers: listReferrers({ origins }),
        catalog: listCatalog({ origins }),
        write: writeHandlers(pushes, manifests),
      };
      const router = createRouter();
      harborRoutes(router, harbor, defaultUpstream);
      conversionRoutes(router, harbor.conversions);
      layerRoutes(router, layers);
      profileRoutes(router, new StartProfiles({ registers: harbor.records, nowMs: dateMs }));
      revocationRoute(router, cache);
      memberLoginRoutes(router, parts.entrance.logins);
      pageRoutes(router, { status, own, origins, clusterVersion: cluster.version });
      const other = routesOf(router);
      return createRegistryApp(
        { log, gate: entry, onRequest: metrics.base.onRequest, upstreams, handlers, admit, door, other },
        { defaultUpstream, trustedProxies: listener['trusted-proxies'] },
      );
    },
    adjust: (limits) => {
      gate.adjust(placeLimits(limits));
      rate.adjust({ perSecond: limits['requests-per-second'] });
    },
    debug: {
      origins: () => origins.ids.map((id) => ({ id, suspect: origins.health.isSuspect(id) })),
    },
  };
}

/** What is told of the face at `/metrics`. */
function watchFace({ metrics, origins, entrance }: FaceParts, cache: ManifestCache, gate: PushGate): void {
  metrics.watch('sepia_proxy_manifest_cache_bytes', 'Memory held by cached manifests.', () => cache.used);
  metrics.watch('sepia_proxy_open_uploads', 'Requests with a blob in their body.', () => gate.open);
  metrics.watch(
    'sepia_proxy_origins_answering',
    'Origins that answer: /readyz counts these.',
    () => origins.ids.length - origins.health.silent(origins.ids).length,
  );
  metrics.watch(
    'sepia_proxy_accounts_differ',
    'Proxies whose accounts-file is another than here.',
    () => entrance.differing().length,
  );
}

/** What a push calls. */
function writeHandlers(
  pushes: Parameters<typeof startUpload>[0],
  manifests: Parameters<typeof putManifest>[0],
): RegistryWriteHandlers {
  const { origins, cache } = manifests;
  return {
    startUpload: startUpload(pushes),
    uploadStatus: uploadStatus(pushes),
    appendUpload: appendUpload(pushes),
    finishUpload: finishUpload(pushes),
    cancelUpload: cancelUpload(pushes),
    putManifest: putManifest(manifests),
    deleteManifest: deleteManifest({ origins, cache }),
    deleteBlob: deleteBlob({ origins }),
  };
}

function accountsOf(entrance: Entrance): { accounts?: string } {
  const accounts = entrance.fingerprint();
  return accounts === undefined ? {} : { accounts };
}
