import type { NamedFile } from '@sepia/base/config/live-texts';
import type { Logger } from '@sepia/base/log';
import type { BackendConfig } from '@sepia/cluster/backend-keys';
import { createDispatcher, type Dispatcher } from '@sepia/http/sockets';
import { liveTls } from '@sepia/http/tls/tls-texts';
import { mountedFiles } from '@sepia/store/files/disk-files';
import { proxiesOf } from '@sepia/upstream/client-setup';
import { proxyEnvironment } from '@sepia/upstream/core/proxy-choice';
import { Pools, type PoolTerms } from '@sepia/upstream/credentials/pools';
import type { BlobBackend } from '../blob-backend.ts';
import { CONNECT_MS } from '../deadlines.ts';
import { FsBackend } from '../fs/fs-backend.ts';
import { S3Keys } from '../s3/core/s3-keys.ts';

/** Threads of Node's pool where nothing is said. */
const NODE_THREADS = 4;

interface OpenBackendDeps {
  readonly log: Logger;
  /** Of the process: HTTP proxies. */
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly nowMs: () => number;
}

interface OpenBackendOptions {
  /** Name of its upstream. */
  readonly upstream: string;
  /** Until a backend begins to answer, in ms. */
  readonly firstByteMs: number;
  /** Longest silence in the middle, in ms. */
  readonly progressMs: number;
  /** As of `FsBackendOptions`. */
  readonly mayBegin: boolean;
  readonly threads: number;
}

/**
 * Calls that each of `folders` folders may make of the system at once: all together hold at most three of eight threads of
 * the pool, 6 of 16, whatever hangs. One at least, each.
 */
export function threadsOf(env: Readonly<Record<string, string | undefined>>, folders: number): number {
  const threads = Number(env['UV_THREADPOOL_SIZE'] ?? NODE_THREADS);
  const share = Math.floor((Number.isInteger(threads) && threads > 0 ? threads : NODE_THREADS) * 0.375);
  return Math.max(1, Math.floor(share / Math.max(1, folders)));
}

/** The file of certificates that the backend of an upstream names. */
export function caOfBackend(upstream: string, { s3 }: BackendConfig): NamedFile | undefined {
  return s3?.ca === undefined ? undefined : { file: s3.ca, key: `upstreams: ${upstream}: backend.s3.ca` };
}

/**
 * Opens the backend of an upstream; nothing is asked of it yet. The library of S3 is loaded by the first bucket alone: an
 * origin without one is smaller by it. @throws {CodedError} `CONFIG_INVALID` that names the key
 */
export async function openBackend(
  deps: OpenBackendDeps,
  config: BackendConfig,
  options: OpenBackendOptions,
): Promise<BlobBackend> {
  const { upstream, firstByteMs, progressMs, mayBegin, threads } = options;
  const { s3, fs } = config;
  if (s3 === undefined)
    return new FsBackend({ files: mountedFiles }, { path: fs!.path, callMs: progressMs, mayBegin, threads });
  const tls = liveTls(deps, { ca: caOfBackend(upstream, config) });
  const proxyFor = proxiesOf(s3.proxy, undefined, proxyEnvironment(deps.env));
  const connections = s3['max-connections'];
  const pools = new Pools();
  const { insecure } = s3;
  const create = ({ tls: { ca }, proxy }: PoolTerms): Dispatcher =>
    createDispatcher({
      ...{ connections, connectTimeoutMs: CONNECT_MS, insecure },
      ...(ca === undefined ? {} : { ca }),
      ...(proxy === undefined ? {} : { proxy }),
    });
  const dispatcher = (url: URL): Dispatcher => {
    const proxy = proxyFor(url);
    return pools.get(proxy?.url ?? '', { tls: tls.current(), proxy }, create);
  };
  const { bucket, region, endpoint } = s3;
  const pathStyle = s3['path-style'] ?? endpoint !== undefined;
  const [{ S3Backend }, { S3Store }] = await Promise.all([
    import('../s3/s3-backend.ts'),
    import('../s3/s3-store.ts'),
  ]);
  const store = new S3Store(
    { dispatcher, close: async () => await pools.destroy(), nowMs: deps.nowMs },
    { bucket, region, endpoint, pathStyle },
    { connections, headersTimeoutMs: firstByteMs, bodyTimeoutMs: progressMs },
  );
  return new S3Backend({ store, keys: new S3Keys(s3.prefix, s3.layout) }, { upstream });
}
