import type { BlobBackend } from '@sepia/backend/blob-backend';
import { openBackend, threadsOf } from '@sepia/backend/open/open-backend';
import { CodedError } from '@sepia/base/errors';
import type { StopStack } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { Gauge, type Metrics } from '@sepia/base/metrics';
import { type BackendConfig, placeOf } from '@sepia/cluster/backend-keys';
import type { Cluster } from '@sepia/cluster/cluster';
import type { Database } from '@sepia/store/data-folder';
import { WriteBehind, type WriteBehindDeps } from './write-behind.ts';

/** In the database of an origin that saw a backend there; the upstream and the place follow. */
const SEEN_KEY = 'm1\0backend\0';
/** In the database of an origin that saw its own blobs in a backend: where; the upstream follows. */
const PLACE_KEY = 'm1\0backend-place\0';

interface OpenBackendsDeps {
  readonly cluster: Cluster;
  readonly db: Database;
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly stops: StopStack;
}

/** Opens the backends of all upstreams that have one, by upstream. @throws {CodedError} `CONFIG_INVALID` that names the key */
export async function openBackends(
  deps: OpenBackendsDeps,
  pace: { readonly progressMs: number; readonly firstByteMs: number },
): Promise<ReadonlyMap<string, BlobBackend>> {
  const { cluster, db, stops } = deps;
  const backends = new Map<string, BlobBackend>();
  const folders = cluster.upstreams.filter(({ backend }) => backend?.fs !== undefined).length;
  const threads = threadsOf(deps.env, folders);
  for (const { name, mode, backend: config } of cluster.upstreams) {
    if (config === undefined) continue;
    if (mode === 'none') refuseMoved(name, config, await db.get(`${PLACE_KEY}${name}`));
    const wasSeen = (await db.get(seenKey(name, config.fs?.path ?? ''))) !== undefined;
    // What nobody here writes to is somebody else's, who marked it.
    const mayBegin = mode === 'none' && !wasSeen;
    const backend = await openBackend(deps, config, { upstream: name, ...pace, mayBegin, threads });
    backends.set(name, backend);
    stops.push(`backend of ${name}`, async () => await backend.close());
  }
  return backends;
}

/**
 * What was evicted here is in the place of before alone. `before`: that, where this origin saw its blobs in one.
 * @throws {CodedError} `CONFIG_INVALID` that names both places
 */
function refuseMoved(upstream: string, config: BackendConfig, before: string | undefined): void {
  const place = placeOf(config);
  if (before === undefined || before === place || config['moved-from'] === before) return;
  throw new CodedError('CONFIG_INVALID', {
    message:
      `upstreams: ${upstream}: backend is ${place}, but its blobs rest in ${before}: set that again, ` +
      `or copy all of it, its mark below clusters/ too, and say so by backend.moved-from: ${before}`,
    detail: { upstream },
  });
}

interface WriteBehindParts
  extends Omit<WriteBehindDeps, 'backends' | 'keepsPushes' | 'onSeen' | 'onWritten' | 'onFailed'> {
  readonly cluster: Cluster;
  readonly db: Database;
  readonly backends: ReadonlyMap<string, BlobBackend>;
  readonly metrics: Metrics;
}

/** Builds what brings pushed blobs to backends, with its metrics; not started. */
export function createWriteBehind(parts: WriteBehindParts): WriteBehind {
  const { cluster, db, metrics, backends: all } = parts;
  const written = metrics.counter(
    'sepia_origin_backend_written_bytes_total',
    'Bytes of pushed blobs written to backends.',
    ['upstream'],
  );
  const failures = metrics.counter(
    'sepia_origin_backend_failures_total',
    'Writes to backends that failed and are tried again.',
    ['upstream'],
  );
  const backends = new Map([...all].filter(([name]) => cluster.upstream(name).mode === 'none'));
  const writtenBack = new Set(
    cluster.upstreams.filter(({ mode }) => mode === 'write-back').map(({ name }) => name),
  );
  const seen = new Set<string>();
  const behind = new WriteBehind({
    ...parts,
    backends,
    keepsPushes: (upstream) => writtenBack.has(upstream),
    onSeen: async (upstream) => {
      if (seen.has(upstream)) return;
      const config = cluster.upstream(upstream).backend!;
      if (config.fs !== undefined) await db.put(seenKey(upstream, config.fs.path), '1');
      await db.put(`${PLACE_KEY}${upstream}`, placeOf(config));
      seen.add(upstream);
    },
    onWritten: (upstream, bytes) => written.inc({ upstream }, bytes),
    onFailed: (upstream) => failures.inc({ upstream }),
  });
  new Gauge({
    name: 'sepia_origin_backend_failing',
    help: '1 while a backend takes nothing and is given a rest between tries.',
    labelNames: ['upstream'],
    registers: [metrics.registry],
    collect() {
      for (const { upstream, isFailing } of behind.states) this.set({ upstream }, isFailing ? 1 : 0);
    },
  });
  metrics.gauge(
    'sepia_origin_backend_owed',
    'Pushed blobs here that are not known to be in their backend yet.',
    () => behind.backlog.blobs,
  );
  metrics.gauge('sepia_origin_backend_owed_bytes', 'Bytes of those.', () => behind.backlog.bytes);
  metrics.gauge(
    'sepia_origin_backend_oldest_seconds',
    'How long the oldest of those waits.',
    () => behind.backlog.oldestSeconds,
  );
  return behind;
}

/** All backends as this origin sees them, for its status; those that are only read tell of no backlog. */
export function backendStates(
  backends: ReadonlyMap<string, BlobBackend>,
  behind: Pick<WriteBehind, 'states'>,
): unknown[] {
  const written = behind.states;
  const isWritten = new Set(written.map(({ upstream }) => upstream));
  const read = [...backends].filter(([upstream]) => !isWritten.has(upstream));
  return [...written, ...read.map(([upstream, { kind, place }]) => ({ upstream, kind, place }))];
}

function seenKey(upstream: string, path: string): string {
  return `${SEEN_KEY}${upstream}\0${path}`;
}
