import { createHash, randomBytes } from 'node:crypto';
import { request } from 'undici';
import { until } from '../until.ts';

/** Busy members take a push within this. */
const PUSHED_MS = 120_000;
/** And give a pull within this. */
const PULLED_MS = 60_000;

/** A pushed image: manifest digest and its blobs. */
export interface PushedImage {
  readonly manifestDigest: string;
  readonly manifest: Buffer;
  readonly config: { digest: string; bytes: Buffer };
  readonly layers: readonly { digest: string; bytes: Buffer }[];
}

/** A random image in memory; config and layers of the given sizes. */
export function randomImage(layerBytes: readonly number[]): PushedImage {
  const blob = (bytes: Buffer) => ({ digest: sha256(bytes), bytes });
  const config = blob(
    Buffer.from(
      JSON.stringify({
        architecture: 'amd64',
        os: 'linux',
        rootfs: { type: 'layers', diff_ids: [] },
        nonce: randomBytes(8).toString('hex'),
      }),
    ),
  );
  const layers = layerBytes.map((size) => blob(randomBytes(size)));
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: {
        mediaType: 'application/vnd.oci.image.config.v1+json',
        digest: config.digest,
        size: config.bytes.length,
      },
      layers: layers.map(({ digest, bytes }) => ({
        mediaType: 'application/vnd.oci.image.layer.v1.tar',
        digest,
        size: bytes.length,
      })),
    }),
  );
  return { manifestDigest: sha256(manifest), manifest, config, layers };
}

/** Pushes as docker does (POST, PATCH chunked, PUT empty), each request to the proxy that `pick` names. */
export async function pushImage(
  pick: () => string,
  repository: string,
  tag: string,
  image: PushedImage,
): Promise<void> {
  for (const { digest, bytes } of [image.config, ...image.layers]) {
    const begun = await request(`${pick()}/v2/${repository}/blobs/uploads/`, { method: 'POST' });
    await begun.body.dump();
    expectStatus(begun.statusCode, 202, 'POST uploads');
    let location = String(begun.headers['location']);
    const middle = Math.floor(bytes.length / 2);
    for (const part of [bytes.subarray(0, middle), bytes.subarray(middle)]) {
      const patched = await request(new URL(location, pick()), {
        method: 'PATCH',
        body: part,
        headers: { 'content-type': 'application/octet-stream' },
      });
      await patched.body.dump();
      expectStatus(patched.statusCode, 202, 'PATCH');
      location = String(patched.headers['location']);
    }
    const target = new URL(location, pick());
    target.searchParams.set('digest', digest);
    const put = await request(target, { method: 'PUT' });
    const text = await put.body.text();
    expectStatus(put.statusCode, 201, `PUT upload: ${text}`);
  }
  const put = await request(`${pick()}/v2/${repository}/manifests/${tag}`, {
    method: 'PUT',
    body: image.manifest,
    headers: { 'content-type': 'application/vnd.oci.image.manifest.v1+json' },
  });
  const text = await put.body.text();
  expectStatus(put.statusCode, 201, `PUT manifest: ${text}`);
}

/** As {@link pushImage}, again while a member that is busy or just started answers 503, as clients do. */
export async function pushUntilTaken(...args: Parameters<typeof pushImage>): Promise<void> {
  await untilNoLonger503(async () => await pushImage(...args), `${args[1]}:${args[2]} is pushed`, PUSHED_MS);
}

/** Pulls as containerd does: HEAD by tag, GET by digest, all blobs at once; every digest checked. Returns bytes of blobs. */
export async function pullImage(url: string, repository: string, tag: string, ns?: string): Promise<number> {
  const query = ns === undefined ? '' : `?ns=${encodeURIComponent(ns)}`;
  const head = await request(`${url}/v2/${repository}/manifests/${tag}${query}`, { method: 'HEAD' });
  await head.body.dump();
  expectStatus(head.statusCode, 200, 'HEAD manifest');
  const digest = String(head.headers['docker-content-digest']);
  const { bytes } = await getChecked(`${url}/v2/${repository}/manifests/${digest}${query}`, digest);
  const manifest = JSON.parse(bytes.toString('utf8')) as {
    config: { digest: string };
    layers: { digest: string }[];
  };
  const blobs = await Promise.all(
    [manifest.config, ...manifest.layers].map((one) =>
      getChecked(`${url}/v2/${repository}/blobs/${one.digest}${query}`, one.digest),
    ),
  );
  return blobs.reduce((sum, one) => sum + one.bytes.length, 0);
}

/** As {@link pullImage}, again while a member that is busy or just started answers 503, as clients do. */
export async function pullUntilGiven(...args: Parameters<typeof pullImage>): Promise<number> {
  return await untilNoLonger503(
    async () => await pullImage(...args),
    `${args[1]}:${args[2]} is pulled`,
    PULLED_MS,
  );
}

async function untilNoLonger503<T>(ask: () => Promise<T>, what: string, withinMs: number): Promise<T> {
  const { given } = await until(
    async () => {
      try {
        return { given: await ask() };
      } catch (error) {
        if (!/status 503/.test(String(error))) throw error;
        return undefined;
      }
    },
    what,
    withinMs,
  );
  return given;
}

export async function getChecked(url: string, digest: string): Promise<{ bytes: Buffer }> {
  const answer = await request(url, { headersTimeout: 60_000, bodyTimeout: 60_000 });
  const bytes = Buffer.from(await answer.body.arrayBuffer());
  expectStatus(answer.statusCode, 200, `GET ${url}: ${bytes.subarray(0, 300).toString('utf8')}`);
  if (sha256(bytes) !== digest) throw new Error(`wrong bytes for ${digest} from ${url}`);
  return { bytes };
}

export function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

function expectStatus(found: number, expected: number, what: string): void {
  if (found !== expected) throw new Error(`${what}: status ${found}, expected ${expected}`);
}
