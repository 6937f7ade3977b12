import type { Digest } from '@sepia/base/digest';
import type { TestUser } from '../clients/token-client.ts';
import { LogLines } from '../log-lines.ts';
import { type FakeAuth, type FakeImage, FakeUpstream, makeImage } from '../upstream/fake-upstream.ts';
import { Constellation, type ConstellationOptions } from './constellation.ts';

export const ALICE: TestUser = { username: 'alice', password: 'al1ce-S3cret' };
export const BOB: TestUser = { username: 'bob', password: 'b0b-S3cret' };
/** `open/…` is public, `alice/…` hers, `both/…` for both. */
export const USERS: FakeAuth = {
  type: 'token',
  users: { alice: ALICE.password, bob: BOB.password },
  mayPull: (user, repository) =>
    repository.startsWith('open/') ||
    (user !== undefined && (repository.startsWith(`${user}/`) || repository.startsWith('both/'))),
};

interface PrivateOptions extends ConstellationOptions {
  readonly auth?: FakeAuth;
  readonly upstream?: Readonly<Record<string, unknown>>;
}

/** Seven origins, three proxies, two agents before a registry that asks who is there. */
export class PrivateCluster {
  readonly upstream: FakeUpstream;
  readonly cluster: Constellation;
  readonly log: LogLines;

  private constructor(upstream: FakeUpstream, cluster: Constellation, log: LogLines) {
    this.upstream = upstream;
    this.cluster = cluster;
    this.log = log;
  }

  static async start(dir: string, options: PrivateOptions = {}): Promise<PrivateCluster> {
    const upstream = await FakeUpstream.start({ auth: options.auth ?? USERS });
    const log = new LogLines('debug');
    try {
      const cluster = await Constellation.start(dir, {
        origins: 7,
        trackers: 2,
        proxies: 3,
        agents: 2,
        log: log.logger,
        upstreams: [
          { name: 'up', url: upstream.url, mode: 'pull-through', ...options.upstream },
          { name: 'local', mode: 'none' },
        ],
        agent: { 'back-to-source': { mode: 'never' } },
        ...options,
      });
      return new PrivateCluster(upstream, cluster, log);
    } catch (error) {
      await upstream.stop();
      throw error;
    }
  }

  /** An image of one layer that only the upstream has. */
  image(repository: string, layerBytes: number): PrivateImage {
    const image = makeImage({ layers: [layerBytes], seed: `${this.cluster.dir}/${repository}` });
    this.upstream.push(repository, image, 'v1');
    return new PrivateImage(this, repository, image);
  }

  agentUrl(at = 0): string {
    return this.cluster.agents[at]!.url;
  }

  /** Requests that reached the upstream's registry host, as "METHOD kind status". */
  get asked(): string[] {
    return this.upstream.log
      .filter((entry) => entry.host === 'registry')
      .map((entry) => `${entry.method} ${entry.kind} ${entry.status}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.cluster.stop();
    await this.upstream.stop();
  }
}

/** An image at the upstream of a {@link PrivateCluster}. */
export class PrivateImage {
  readonly #here: PrivateCluster;
  readonly repository: string;
  readonly layer: Digest;
  readonly content: Buffer;
  readonly manifest: Digest;

  constructor(here: PrivateCluster, repository: string, image: FakeImage) {
    this.#here = here;
    this.repository = repository;
    this.layer = image.layers[0]!;
    this.content = image.blobs.get(this.layer)!;
    this.manifest = image.manifest.digest;
  }

  manifestUrl(base = this.#here.agentUrl(), reference: string = 'v1'): string {
    return `${base}/v2/${this.repository}/manifests/${reference}`;
  }

  blobUrl(base = this.#here.agentUrl(), repository = this.repository): string {
    return `${base}/v2/${repository}/blobs/${this.layer}`;
  }

  tagsUrl(base = this.#here.agentUrl()): string {
    return `${base}/v2/${this.repository}/tags/list`;
  }
}
