import { randomBytes } from 'node:crypto';
import { type Digest, digestOf } from '@sepia/base/digest';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { type Dispatcher, Pool } from 'undici';
import { median, percentile, round } from './support/figures.ts';
import { startRegistry, startUp } from './support/loopback.ts';
import { cpuSeconds, IdleMeter, quietMachine } from './support/machine.ts';
import { runBench } from './support/run.ts';

const REPOSITORIES = 20;
/** Both sides take turns, so that other work on the machine meets both. */
const ROUNDS = 4;

interface Image {
  readonly repository: string;
  readonly tag: string;
  readonly blobs: readonly { readonly digest: Digest; readonly bytes: Buffer }[];
  readonly manifest: Buffer;
}

function makeImage(index: number, blobBytes: number): Image {
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
class Side {
  readonly #pool: Pool;
  readonly #url: string;
  readonly #pids: readonly number[];
  readonly #atOnce: number;
  readonly pushMs: number[] = [];
  #seconds = 0;
  #cpuSeconds = 0;

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
    let next = 0;
    const work = async (): Promise<void> => {
      for (let image = images[next++]; image !== undefined; image = images[next++]) {
        const imageMs = performance.now();
        await this.#push(image);
        this.pushMs.push(performance.now() - imageMs);
      }
    };
    await Promise.all(Array.from({ length: this.#atOnce }, work));
    this.#seconds += (performance.now() - beganMs) / 1000;
    this.#cpuSeconds += this.#cpu() - cpuBefore;
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
    method: 'POST' | 'PUT',
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

  figures(): Record<string, number> {
    return {
      imagesPerSecond: round(this.pushMs.length / this.#seconds, 1),
      p50Ms: round(median(this.pushMs), 1),
      p99Ms: round(percentile(this.pushMs, 99), 1),
      maxMs: round(Math.max(...this.pushMs), 1),
      cpuSeconds: round(this.#cpuSeconds, 2),
      cpuMsPerImage: round((this.#cpuSeconds * 1000) / this.pushMs.length, 2),
    };
  }
}

await runBench({
  id: 'small-pushes',
  claim:
    'many small images pushed through a proxy of three origins (acknowledged when two have it), beside docker-registry',
  options: { images: 1_000, 'at-once': 8, size: 10 },
  run: async ({ stops, dir, number, say }) => {
    const atOnce = number('at-once');
    const images = Array.from({ length: number('images') }, (_, at) => makeImage(at, number('size') * 1024));
    const registry = await startRegistry(stops, dir);
    const counts = ['--origins', '3', '--trackers', '1', '--proxies', '1', '--agents', '0'];
    const { proxies, origins, trackers } = (await startUp(stops, dir, counts)).cluster;
    const pids = [...proxies, ...origins, ...trackers].map(({ pid }) => pid);
    const sepia = new Side(proxies[0]!.url, pids, atOnce);
    const plain = new Side(registry.url, [registry.pid], atOnce);
    stops.push('connections', async () => {
      await Promise.all([sepia.close(), plain.close()]);
    });
    const quiet = await quietMachine();
    const meter = new IdleMeter();
    const perRound = Math.ceil(images.length / ROUNDS);
    for (let at = 0; at < images.length; at += perRound) {
      const part = images.slice(at, at + perRound);
      await plain.pushAll(part);
      await sepia.pushAll(part);
      say(`${at + part.length} of ${images.length} images`);
    }
    return {
      images: images.length,
      atOnce,
      sepia: sepia.figures(),
      registry: plain.figures(),
      idleBeforePercent: quiet,
      idlePercent: meter.percent(),
      note: 'client, registry and all members share the machine and its disk; docker-registry keeps one copy, Sepia three',
    };
  },
});
