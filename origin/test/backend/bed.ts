import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Digest, digestHex, digestOf } from '@sepia/base/digest';
import type { GcReport } from '@sepia/cluster/api/gc-report';
import { seeded } from '@sepia/test-support/seeded';
import { until as untilWithin } from '@sepia/test-support/until';
import type { Test } from 'tap';
import { startCluster, type TestCluster } from '../support/cluster.ts';

export const MIB = 1024 * 1024;
const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
export const REPOSITORY = 'team/app';

export const until: typeof untilWithin = async (look, what, ms = 60_000) => await untilWithin(look, what, ms);

export interface Backlog {
  readonly blobs: number;
  readonly bytes: number;
  readonly problem?: string;
}

export interface SetUp {
  readonly c: TestCluster;
  /** The folder of the backend. */
  readonly place: string;
}

export async function setUp(
  t: Test,
  options: { readonly origins?: number; readonly budget?: string; readonly config?: string } = {},
): Promise<SetUp> {
  // The test's own folder is the cluster's.
  const dir = mkdtempSync(join(tmpdir(), 'sepia-backend-'));
  t.teardown(() => rmSync(dir, { recursive: true, force: true }));
  const place = join(dir, 'place');
  mkdirSync(place);
  const config = `cache:\n  budget: ${options.budget ?? '50GiB'}\n  high: 0.5\n  low: 0.2\n${options.config ?? ''}`;
  const upstreams = [{ name: 'local', mode: 'none', backend: { fs: { path: place } } }];
  const c = await startCluster(t, { origins: options.origins ?? 3, config, document: { upstreams } });
  return { c, place };
}

export function bytesOf(length: number, seed: number): Buffer {
  const random = seeded(seed);
  const block = Buffer.from(Array.from({ length: 1_024 }, () => Math.floor(random() * 256)));
  return Buffer.alloc(length, block);
}

export async function push(c: TestCluster, bytes: Buffer): Promise<Digest> {
  const digest = digestOf(bytes);
  const path = `/v1/blobs/${digest}?upstream=local&repository=${REPOSITORY}`;
  await until(async () => {
    const put = await c.put(c.ids[0]!, path, bytes);
    // Members that are slow answer 503.
    if (put.status !== 201 && put.status !== 503) throw new Error(`blob: ${put.status} ${put.bytes}`);
    return put.status === 201;
  }, 'the blob is taken');
  return digest;
}

export async function pushImage(
  c: TestCluster,
  layers: readonly { digest: Digest; size: number }[],
): Promise<Digest> {
  const [config, ...rest] = layers.map((one) => ({ mediaType: 'application/octet-stream', ...one }));
  const bytes = Buffer.from(
    JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: rest }),
  );
  await until(async () => {
    const put = await c.put(
      c.ids[0]!,
      `/v1/manifests?upstream=local&repository=${REPOSITORY}&reference=v1`,
      bytes,
      { 'content-type': OCI_MANIFEST },
    );
    if (put.status !== 201 && put.status !== 503) throw new Error(`manifest: ${put.status} ${put.bytes}`);
    return put.status === 201;
  }, 'the manifest is taken');
  return digestOf(bytes);
}

/** As clients do: what a busy member answers with 503 is asked again. */
export async function pull(c: TestCluster, id: string, digest: Digest, range?: string) {
  let answer = await pullOnce(c, id, digest, range);
  await until(async () => {
    if (answer.status === 503) answer = await pullOnce(c, id, digest, range);
    return answer.status !== 503;
  }, 'a blob is answered');
  return answer;
}

async function pullOnce(c: TestCluster, id: string, digest: Digest, range: string | undefined) {
  let at = id;
  for (let hops = 0; hops < 4; hops++) {
    const answer = await c.get(
      at,
      `/v1/blobs/${digest}?upstream=local&repository=${REPOSITORY}`,
      range === undefined ? {} : { range },
    );
    const next = answer.headers['sepia-origin'] ?? undefined;
    if (answer.status !== 307 || typeof next !== 'string') return answer;
    at = next;
  }
  throw new Error('sent around');
}

export async function backlogs(c: TestCluster): Promise<Backlog[]> {
  return await Promise.all(
    [...c.origins.keys()].map(async (id) => {
      const { bytes } = await c.get(id, '/v1/status');
      return (JSON.parse(bytes.toString()) as { backend: Backlog }).backend;
    }),
  );
}

export const written = (c: TestCluster) => async (): Promise<boolean> =>
  (await backlogs(c)).every(({ blobs }) => blobs === 0);

/** Files of a blob at origins. */
export function copies(c: TestCluster, digest: Digest): string[] {
  return c.ids.filter((id) => existsSync(c.fileOf(id, digest)));
}

export const fileIn = (place: string, digest: Digest): string =>
  join(place, 'blobs/sha256', digestHex(digest).slice(0, 2), digestHex(digest));

/** A whole collection led by the first origin, without a grace. */
export async function collect(c: TestCluster, dryRun = false): Promise<GcReport> {
  const [leader = ''] = c.ids;
  const body = Buffer.from(JSON.stringify({ dryRun, graceMs: 0 }));
  const headers = { 'content-type': 'application/json' };
  await until(async () => {
    const { status, bytes } = await c.call(leader, { method: 'POST', path: '/v1/gc', body, headers });
    if (status !== 202 && !/another collection|does not answer|owes/.test(bytes.toString()))
      throw new Error(`gc: ${status} ${bytes}`);
    return status === 202;
  }, 'a collection begins');
  return await until(async () => {
    const { bytes } = await c.get(leader, '/v1/gc');
    const { report } = JSON.parse(bytes.toString()) as { report?: GcReport };
    return report?.endedAtMs === undefined ? undefined : report;
  }, 'it ends');
}
