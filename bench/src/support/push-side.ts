import { randomBytes } from 'node:crypto';
import { type Digest, digestOf } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { type Dispatcher, Pool } from 'undici';
import { median, percentile, round } from './figures.ts';
import { cpuSeconds } from './machine.ts';

const REPOSITORIES = 20;

/** An image of two small blobs. */
export interface Image {
  readonly repository: string;
  readonly tag: string;
  readonly blobs: readonly { readonly digest: Digest; readonly bytes: Buffer }[];
  readonly manifest: Buffer;
}

/** What a side did. */
export interface PushFigures {
  readonly imagesPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  readonly cpuSeconds: number;
  readonly cpuMsPerImage: number;
  /** A process that has just started compiles what it runs. */
  readonly cpuMsPerImageByRound: readonly number[];
}

/** Random blobs of so many bytes, in one of twenty repositories. */
export function makeImage(index: number, blobBytes: number): Image {
  const blobs = [randomBytes(blobBytes), randomBytes(blobBytes)].map((bytes) => ({
    digest: digestOf(bytes),
    bytes,
  }));
  const [config, layer] = blobs.map(({ digest }) => ({ digest, size: blobBytes }));
  const manifest = {
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: { mediaType: 'application/vnd.oci.image.config.v1+json', ...config },
    layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar', ...layer }],
  };
  return {
    repository: `team/small${index % REPOSITORIES}`,
    tag: `v${index}`,
    blobs,
    manifest: Buffer.from(JSON.stringify(manifest)),
  };
}

/** One registry that is pushed to, with the processes behind it. */
export class Side {
  readonly #pool: Pool;
  readonly #url: string;
  readonly #pids: readonly number[];
  readonly #atOnce: number;
  readonly pushMs: number[] = [];
  #seconds = 0;
  #cpuSeconds = 0;
  readonly #cpuMsByRound: number[] = [];

  constructor(url: string, pids: readonly number[], atOnce: number) {
    this.#url = url;
    this.#pids = pids;
    this.#atOnce = atOnce;
    this.#pool = new Pool(url, { connections: atOnce });
  }

  async close(): Promise<void> {
    await this.#pool.close();
  }

  async pushAll(images: readonly Image[]): Promise<void> {
    const cpuBefore = this.#cpu();
    const beganMs = performance.now();
    this.pushMs.push(...(await this.#each(images, async (image) => await this.#push(image))));
    this.#seconds += (performance.now() - beganMs) / 1000;
    const used = this.#cpu() - cpuBefore;
    this.#cpuSeconds += used;
    this.#cpuMsByRound.push(round((used * 1000) / images.length, 1));
  }

  /** Points each image's tag at its manifest, which is there; ms of each. */
  async tagAll(images: readonly Image[]): Promise<number[]> {
    return await this.#each(images, async ({ repository, tag, manifest }) => {
      await this.#send('PUT', `/v2/${repository}/manifests/${tag}`, manifest, 201, OCI_MANIFEST);
    });
  }

  /** Looks each image's tag up; ms of each. */
  async lookAll(images: readonly Image[]): Promise<number[]> {
    return await this.#each(images, async ({ repository, tag, manifest }) => {
      const found = await this.#send('HEAD', `/v2/${repository}/manifests/${tag}`, undefined, 200);
      if (found['docker-content-digest'] !== digestOf(manifest))
        throw new Error(`${this.#url}: wrong digest`);
    });
  }

  async #each(images: readonly Image[], run: (image: Image) => Promise<void>): Promise<number[]> {
    const tookMs: number[] = [];
    let next = 0;
    const work = async (): Promise<void> => {
      for (let image = images[next++]; image !== undefined; image = images[next++]) {
        const beganMs = performance.now();
        await run(image);
        tookMs.push(performance.now() - beganMs);
      }
    };
    await Promise.all(Array.from({ length: this.#atOnce }, work));
    return tookMs;
  }

  /** As containerd and skopeo push: POST and PUT for each blob, then the manifest by tag. */
  async #push({ repository, tag, blobs, manifest }: Image): Promise<void> {
    for (const { digest, bytes } of blobs) {
      const begun = await this.#send('POST', `/v2/${repository}/blobs/uploads/`, undefined, 202);
      const place = new URL(String(begun['location']), this.#url);
      place.searchParams.set('digest', digest);
      await this.#send('PUT', place.pathname + place.search, bytes, 201, 'application/octet-stream');
    }
    const put = await this.#send('PUT', `/v2/${repository}/manifests/${tag}`, manifest, 201, OCI_MANIFEST);
    if (put['docker-content-digest'] !== digestOf(manifest)) throw new Error(`${this.#url}: wrong digest`);
  }

  async #send(
    method: 'POST' | 'PUT' | 'HEAD',
    path: string,
    body: Buffer | undefined,
    status: number,
    type?: string,
  ): Promise<Dispatcher.ResponseData['headers']> {
    const headers = type === undefined ? {} : { 'content-type': type };
    const answer = await this.#pool.request({ method, path, headers, body: body ?? null });
    const text = await answer.body.text();
    if (answer.statusCode !== status)
      throw new Error(`${method} ${this.#url}${path}: ${answer.statusCode} ${text}`);
    return answer.headers;
  }

  #cpu(): number {
    return this.#pids.reduce((sum, pid) => sum + cpuSeconds(pid), 0);
  }

  figures(): PushFigures {
    return {
      imagesPerSecond: round(this.pushMs.length / this.#seconds, 1),
      p50Ms: round(median(this.pushMs), 1),
      p99Ms: round(percentile(this.pushMs, 99), 1),
      maxMs: round(Math.max(...this.pushMs), 1),
      cpuSeconds: round(this.#cpuSeconds, 2),
      cpuMsPerImage: round((this.#cpuSeconds * 1000) / this.pushMs.length, 2),
      cpuMsPerImageByRound: this.#cpuMsByRound,
    };
  }
}

/** Both sides take turns, so that other work on the machine meets both. */
const ROUNDS = 4;

/** All images, a part at a time. */
export async function inRounds(
  images: readonly Image[],
  say: (line: string) => void,
  work: (part: readonly Image[]) => Promise<void>,
): Promise<void> {
  const perRound = Math.ceil(images.length / ROUNDS);
  for (let at = 0; at < images.length; at += perRound) {
    const part = images.slice(at, at + perRound);
    await work(part);
    say(`${at + part.length} of ${images.length} images`);
  }
}
