import type { Digest } from '@sepia/base/digest';
import { request } from 'undici';
import { type Watched, watchedGet } from '../clients/watched-get.ts';
import { LogLines } from '../log-lines.ts';
import {
  type FakeImage,
  FakeUpstream,
  type Misbehaviour,
  makeImage,
  type Rule,
} from '../upstream/fake-upstream.ts';
import { Constellation, type ConstellationOptions } from './constellation.ts';

export const MIB = 1024 * 1024;

interface PullThroughOptions extends ConstellationOptions {
  /** Further keys of the upstream in the cluster document. */
  readonly upstream?: Readonly<Record<string, unknown>>;
}

/** The patience of a cluster whose tests do not take long. */
const QUICK = {
  origin: { deadlines: { 'fetch-progress': '2s', 'first-byte': '2s', 'body-stall': '4s', drain: '1s' } },
  agent: {
    deadlines: { 'download-progress': '4s', 'body-stall': '5s' },
    'back-to-source': { mode: 'never' },
  },
};

/** Where nothing is to be given up: what a busy machine needs is waited for. */
export const PATIENT = {
  origin: { deadlines: { 'fetch-progress': '20s', 'first-byte': '20s', 'body-stall': '25s', drain: '1s' } },
  agent: {
    deadlines: { 'download-progress': '20s', 'body-stall': '25s' },
    'back-to-source': { mode: 'never' },
  },
};

/** A cluster of 3 origins before one fake upstream, which has as many images as a test asks for. */
export class PullThrough {
  readonly upstream: FakeUpstream;
  readonly cluster: Constellation;
  readonly log: LogLines;
  #images = 0;

  private constructor(parts: Pick<PullThrough, 'upstream' | 'cluster' | 'log'>) {
    this.upstream = parts.upstream;
    this.cluster = parts.cluster;
    this.log = parts.log;
  }

  static async start(dir: string, options: PullThroughOptions = {}): Promise<PullThrough> {
    const log = new LogLines();
    const upstream = await FakeUpstream.start();
    try {
      const cluster = await Constellation.start(dir, {
        agents: 1,
        trackers: 1,
        proxies: 1,
        ...QUICK,
        log: log.logger,
        upstreams: [{ name: 'up', url: upstream.url, mode: 'pull-through', ...options.upstream }],
        ...options,
      });
      return new PullThrough({ upstream, cluster, log });
    } catch (error) {
      await upstream.stop();
      throw error;
    }
  }

  /** Another image of one layer, in a repository of its own; nobody in the cluster has heard of it. */
  image(layerBytes: number): ColdLayer {
    this.#images += 1;
    const repository = `team/app${this.#images}`;
    const image = makeImage({ layers: [layerBytes], seed: `${this.cluster.dir}/${this.#images}` });
    this.upstream.push(repository, image, 'v1');
    return new ColdLayer(this, repository, image);
  }

  /** As {@link image}; the first agent has seen its manifest, which tells the layer's size. */
  async hinted(layerBytes: number): Promise<ColdLayer> {
    const layer = this.image(layerBytes);
    await layer.hint();
    return layer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cluster.stop();
    await this.upstream.stop();
  }
}

/** A layer that only the upstream has. */
export class ColdLayer {
  readonly #here: PullThrough;
  readonly repository: string;
  readonly image: FakeImage;
  readonly digest: Digest;
  readonly content: Buffer;

  constructor(here: PullThrough, repository: string, image: FakeImage) {
    this.#here = here;
    this.repository = repository;
    this.image = image;
    this.digest = image.layers[0]!;
    this.content = image.blobs.get(this.digest)!;
  }

  /** Its address at the agent of that number. */
  url(agent = 0): string {
    return `${this.#here.cluster.agents[agent]!.url}/v2/${this.repository}/blobs/${this.digest}`;
  }

  /** Lets the manifest pass, so that size and link are known. */
  async hint(agent = 0): Promise<void> {
    const url = `${this.#here.cluster.agents[agent]!.url}/v2/${this.repository}/manifests/v1`;
    const answer = await request(url);
    const text = await answer.body.text();
    if (answer.statusCode !== 200) throw new Error(`manifest: ${answer.statusCode} ${text}`);
  }

  async get(headers: Readonly<Record<string, string>> = {}, agent = 0): Promise<Watched> {
    return await watchedGet(this.url(agent), headers);
  }

  /** What the upstream does to GETs of this layer from now on. */
  misbehave(does: Misbehaviour, when: Omit<Rule, 'kind' | 'path' | 'does'> = {}): () => void {
    return this.#here.upstream.misbehave({ method: 'GET', ...when, kind: 'blob', path: this.digest, does });
  }

  /** Requests for it that the upstream saw, HEADs left out. */
  get requests(): { range: string | undefined; sentBytes: number; status: number }[] {
    return this.#here.upstream.requests('blob', 'GET').filter((entry) => entry.path.includes(this.digest));
  }

  /** Bytes of it that left the upstream. */
  get upstreamBytes(): number {
    return this.requests.reduce((sum, entry) => sum + entry.sentBytes, 0);
  }
}
