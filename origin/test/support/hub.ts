import { randomBytes } from 'node:crypto';
import { digestOf } from '@sepia/base/digest';
import type { WriteBackJob, WriteBackStatus } from '@sepia/cluster/api/write-back';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { untilAnswered, until as untilWithin } from '@sepia/test-support/until';
import { TestTarget } from '@sepia/test-support/upstream/test-target';
import type { Test } from 'tap';
import { startCluster, type TestCluster } from './cluster.ts';

/** Tries that a test can wait for. */
export const RETRY = { first: '50ms', max: '300ms', tries: 3 };

/** Every wait of these tests ends much earlier, unless the machine does something else. */
export const until: typeof untilWithin = async (look, what) => await untilWithin(look, what, 90_000);

export interface Answer {
  readonly status: number;
  readonly digest: string | undefined;
  readonly bytes: Buffer;
}

/** Three origins before a registry that can be taken away: upstream `hub`, of mode write-back. */
export class Hub {
  readonly target: TestTarget;
  readonly c: TestCluster;
  #turn = 0;

  constructor(target: TestTarget, c: TestCluster) {
    this.target = target;
    this.c = c;
  }

  static async start(
    t: Test,
    keys: object = {},
    options: { readonly config?: string; readonly target?: TestTarget } = {},
  ): Promise<Hub> {
    const target = options.target ?? (await TestTarget.start(t));
    const writeBack = { retry: RETRY, ...keys };
    const hub = { name: 'hub', url: target.url, mode: 'write-back', access: 'cluster' };
    const upstreams = [{ ...hub, 'write-back': writeBack }];
    return new Hub(target, await startCluster(t, { origins: 3, upstreams, ...options }));
  }

  /** At one origin after the other. */
  async call(method: string, path: string, body?: Buffer, type?: string): Promise<Answer> {
    const ids = [...this.c.origins.keys()];
    const answer = await this.c.call(ids[this.#turn++ % ids.length]!, {
      method: method as 'GET',
      path,
      ...(body === undefined ? {} : { body }),
      ...(type === undefined ? {} : { headers: { 'content-type': type } }),
    });
    const digest = answer.headers['docker-content-digest'];
    return { status: answer.status, digest: digest as string | undefined, bytes: answer.bytes };
  }

  async blob(repository: string, bytes: Buffer): Promise<object> {
    const digest = digestOf(bytes);
    const path = `/v1/blobs/${digest}?upstream=hub&repository=${repository}`;
    const put = await untilAnswered(async () => await this.call('PUT', path, bytes), 'a blob');
    if (put.status !== 201) throw new Error(`blob: ${put.status} ${put.bytes}`);
    return { mediaType: 'application/octet-stream', digest, size: bytes.length };
  }

  async manifest(repository: string, reference: string | undefined, body: object): Promise<string> {
    const bytes = Buffer.from(JSON.stringify(body));
    const digest = digestOf(bytes);
    const path = `/v1/manifests?upstream=hub&repository=${repository}&reference=${reference ?? digest}`;
    const { mediaType } = body as { mediaType: string };
    const put = await untilAnswered(
      async () => await this.call('PUT', path, bytes, mediaType),
      reference ?? digest,
    );
    if (put.status !== 201) throw new Error(`manifest: ${put.status} ${put.bytes}`);
    return digest;
  }

  async image(repository: string, reference?: string, bytes = randomBytes(300)): Promise<string> {
    const layers = [await this.blob(repository, bytes)];
    return await this.manifest(repository, reference, { schemaVersion: 2, mediaType: OCI_MANIFEST, layers });
  }

  async tag(repository: string, reference: string): Promise<Answer> {
    return await this.call(
      'GET',
      `/v1/manifests?upstream=hub&repository=${repository}&reference=${reference}`,
    );
  }

  async jobs(): Promise<readonly WriteBackJob[]> {
    const all = await Promise.all(
      [...this.c.origins.keys()].map(async (id) => {
        const { bytes } = await this.c.get(id, '/v1/write-back');
        return (JSON.parse(bytes.toString()) as WriteBackStatus).jobs;
      }),
    );
    return all.flat();
  }

  async retry(body: object): Promise<void> {
    for (const id of this.c.origins.keys()) {
      const json = Buffer.from(JSON.stringify({ atMs: Date.now(), ...body }));
      const { status, bytes } = await this.c.call(id, {
        method: 'POST',
        path: '/v1/write-back/retry',
        body: json,
      });
      if (status !== 200) throw new Error(bytes.toString());
    }
  }

  async drained(): Promise<void> {
    await until(async () => (await this.jobs()).length === 0, 'nothing waits');
  }

  async dead(): Promise<WriteBackJob> {
    let found: WriteBackJob | undefined;
    await until(async () => {
      found = (await this.jobs()).find((job) => job.state === 'dead');
      return found !== undefined;
    }, 'a job is dead');
    return found!;
  }

  /** Somebody pushes to the registry itself. */
  direct(repository: string, tag: string): string {
    const bytes = Buffer.from(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: OCI_MANIFEST,
        layers: [],
        x: randomBytes(8).toString('hex'),
      }),
    );
    const digest = digestOf(bytes);
    this.target.manifestBytes.set(digest, bytes);
    this.target.manifests.set(`${repository}@${digest}`, digest);
    this.target.manifests.set(`${repository}:${tag}`, digest);
    return digest;
  }
}
