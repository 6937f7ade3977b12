import { CodedError, type ErrorCode } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import type { ClusterUpstream } from '@sepia/cluster/cluster';
import type { Resolve } from '@sepia/http/names/lookup';
import { parseReference, type Reference } from '@sepia/oci/route';
import { FakeUpstream } from '@sepia/test-support/upstream/fake-upstream';
import type { Test } from 'tap';
import type { ProxyEnvironment } from '../src/core/proxy-choice.ts';
import type { Identity } from '../src/credentials/open.ts';
import { type Credentials, fixedCredentials } from '../src/credentials/source.ts';
import type { UpstreamClientOptions } from '../src/queries.ts';
import { UpstreamClient } from '../src/upstream-client.ts';

type Teardown = Pick<Test, 'teardown'>;
type StartOptions = Parameters<typeof FakeUpstream.start>[0];

export const REPOSITORY = parseRepositoryName('library/app');

/** A fake upstream that ends with the test. */
export async function startUpstream(t: Teardown, options: StartOptions = {}): Promise<FakeUpstream> {
  const upstream = await FakeUpstream.start(options);
  t.teardown(() => upstream.stop());
  return upstream;
}

export interface ClientSetup {
  readonly credentials?: Credentials;
  readonly ca?: string;
  readonly upstream?: Partial<ClusterUpstream>;
  readonly options?: UpstreamClientOptions;
  readonly nowMs?: () => number;
  readonly proxies?: ProxyEnvironment;
  readonly resolve?: Resolve;
  readonly identity?: Partial<Identity>;
  readonly names?: ConstructorParameters<typeof UpstreamClient>[0]['names'];
}

/** A client of a fake upstream that ends with the test; short timeouts. */
export function clientOf(t: Teardown, url: string, setup: ClientSetup = {}): UpstreamClient {
  const upstream: ClusterUpstream = {
    name: 'fake',
    url,
    hosts: ['fake'],
    mode: 'pull-through',
    insecure: false,
    tags: { ttl: 60_000, 'stale-limit': 86_400_000, overrides: [] },
    quotas: [],
    'cached-replicas': 1,
    'max-connections': 8,
    'manifest-recheck': 'never',
    'fetch-with': 'any',
    'redirect-hosts': [],
    'realm-hosts': [],
    ...setup.upstream,
  };
  const client = new UpstreamClient(
    {
      upstream,
      log: silentLogger(),
      nowMs: setup.nowMs ?? Date.now,
      identity: {
        ...(setup.credentials === undefined ? {} : { credentials: fixedCredentials(setup.credentials) }),
        ...setup.identity,
      },
      ca: setup.ca,
      proxies: setup.proxies,
      resolve: setup.resolve,
      names: setup.names,
    },
    { headersTimeoutMs: 2_000, bodyTimeoutMs: 300, ...setup.options },
  );
  t.teardown(() => client.close());
  return client;
}

/** A deadline for one step of a test. */
export function soon(): AbortSignal {
  return AbortSignal.timeout(60_000);
}

export function reference(text: string): Reference {
  return parseReference(text);
}

/** The coded error that a promise fails with; anything else is thrown on. */
export async function failure(promise: Promise<unknown>, code: ErrorCode): Promise<CodedError> {
  const error = await promise.then(
    () => new Error(`did not fail; expected ${code}`),
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof CodedError) || error.code !== code) throw error;
  return error;
}

export async function readAll(body: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks);
}
