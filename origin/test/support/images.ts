import { randomBytes } from 'node:crypto';
import { rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { type Digest, digestOf } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { until, untilAnswered } from '@sepia/test-support/until';
import type { TestCluster } from './cluster.ts';

const SIZE = 20_000;

/** What was pushed under a tag: its manifest, and the blobs that it names. */
export interface Pushed {
  readonly manifest: Digest;
  readonly blobs: readonly Digest[];
}

/** Pushes a small image of two blobs to `id`. @throws if the push is not acknowledged */
export async function pushTag(c: TestCluster, id: string, repository: string, tag: string): Promise<Pushed> {
  const name = `upstream=local&repository=${repository}`;
  const put = async (path: string, body: Uint8Array, headers: Record<string, string> = {}): Promise<void> => {
    const answer = await untilAnswered(async () => await c.put(id, path, body, headers), path);
    if (answer.status !== 201) throw new Error(`${path}: ${answer.status} ${answer.bytes.toString()}`);
  };
  const blobs = [randomBytes(SIZE), randomBytes(SIZE)];
  const descriptors = blobs.map((bytes) => ({
    mediaType: 'application/octet-stream',
    digest: digestOf(bytes),
    size: bytes.length,
  }));
  for (const [index, bytes] of blobs.entries())
    await put(`/v1/blobs/${descriptors[index]!.digest}?${name}`, bytes);
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: descriptors[0],
      layers: descriptors.slice(1),
    }),
  );
  await put(`/v1/manifests?${name}&reference=${tag}`, manifest, { 'content-type': OCI_MANIFEST });
  return { manifest: digestOf(manifest), blobs: descriptors.map(({ digest }) => digest) };
}

/** What is wrong with an acknowledged push as `id` serves it, and with the copies on the owners' own disks. */
export async function faultOf(
  c: TestCluster,
  id: string,
  repository: string,
  tag: string,
  pushed: Pushed,
): Promise<string | undefined> {
  const name = `upstream=local&repository=${repository}`;
  const get = async (path: string): ReturnType<TestCluster['call']> =>
    await untilAnswered(async () => await c.get(id, path), `${path} at ${id}`);
  const got = await get(`/v1/manifests?${name}&reference=${tag}`);
  if (got.status !== 200) return `${tag} at ${id}: ${got.status} ${got.bytes.toString().slice(0, 200)}`;
  if (digestOf(got.bytes) !== pushed.manifest) return `${tag} at ${id}: another image`;
  for (const digest of pushed.blobs) {
    const blob = await get(`/v1/blobs/${digest}?${name}`);
    if (blob.status !== 200 || digestOf(blob.bytes) !== digest)
      return `${digest} at ${id}: ${blob.status} ${blob.bytes.toString().slice(0, 200)}`;
  }
  for (const digest of [...pushed.blobs, pushed.manifest])
    for (const owner of c.cluster.origins(digest).owners) {
      const where = await c.get(owner, `/v1/blobs/${digest}/where?${name}`);
      if (!where.bytes.toString().includes('"final"')) return `${digest} is not at its owner ${owner}`;
    }
  return undefined;
}

/** Everything that was acknowledged is at every origin. */
export async function faultsOf(
  c: TestCluster,
  repository: string,
  pushed: ReadonlyMap<string, Pushed>,
): Promise<string[]> {
  const found: string[] = [];
  for (const [tag, one] of pushed)
    for (const id of c.ids) {
      const fault = await faultOf(c, id, repository, tag, one);
      if (fault !== undefined) found.push(fault);
    }
  return found;
}

/** Damages one byte of a stored blob in each of these places. */
export async function rot(c: TestCluster, id: string, digest: Digest, ...places: number[]): Promise<void> {
  await using file = await open(c.fileOf(id, digest), 'r+');
  for (const at of places) {
    const byte = Buffer.alloc(1);
    await file.read(byte, 0, 1, at);
    await file.write(Buffer.of(byte[0]! ^ 0xff), 0, 1, at);
  }
}

/** A member comes back on an empty disk. */
export async function loseDisk(c: TestCluster, id: string): Promise<void> {
  await c.stop(id);
  rmSync(c.dataOf(id), { recursive: true, force: true });
  await c.start(id);
}

interface OwedAnswer {
  readonly owed?: {
    readonly handover?: string;
    records?: number;
    readonly blobs: number;
    readonly copies: number;
  };
}

/** Until no origin owes or is owed anything. */
export async function untilNothingOwed(c: TestCluster, deadlineMs = 120_000): Promise<void> {
  let last = '';
  await until(
    async () => {
      const answers = await Promise.all(
        c.ids.map(async (id) => await c.get(id, '/v1/status').catch(() => undefined)),
      );
      last = answers
        .map((one) => one && JSON.stringify((JSON.parse(one.bytes.toString()) as OwedAnswer).owed))
        .join();
      return answers.every((answer) => {
        const owed = answer && (JSON.parse(answer.bytes.toString()) as OwedAnswer).owed;
        return owed?.handover === undefined && owed?.records === 0 && owed.blobs === 0 && owed.copies === 0;
      });
    },
    'nothing is owed',
    deadlineMs,
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${last}`);
  });
}
