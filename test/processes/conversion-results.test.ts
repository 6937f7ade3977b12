import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { digestOf } from '@sepia/base/digest';
import { SOURCE_ANNOTATION } from '@sepia/lazy/convert/documents';
import { OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import { fileImage, pushFileImage } from '@sepia/test-support/clients/file-image';
import { callUntilAnswered, deleteManifest } from '@sepia/test-support/clients/registry-calls';
import { bytesOf } from '@sepia/test-support/seeded';
import { until } from '@sepia/test-support/until';
import { Up } from '@sepia/test-support/up';
import { sent } from '@sepia/test-support/upstream/harbor-calls';
import t from 'tap';

const DONE_MS = 240_000;
const WITH_SOURCE = { from: 'local', 'delete-with-source': true };
const DOCUMENT = {
  version: 1,
  members: [],
  upstreams: [{ name: 'local', mode: 'none', hosts: ['harbor.test'] }],
  conversions: [
    { name: 'tagged', repositories: ['tagged/**'], ...WITH_SOURCE },
    { name: 'both', repositories: ['both/**'], result: 'image-index', ...WITH_SOURCE },
    { name: 'beside', repositories: ['beside/**'], result: 'referrer', ...WITH_SOURCE },
  ],
};

interface Made {
  readonly digest: string;
  readonly annotations?: Record<string, string>;
  readonly layers?: readonly { readonly digest: string }[];
  readonly manifests?: readonly Made[];
  readonly subject?: { readonly digest: string };
}

t.setTimeout(800_000);

/** A cluster that converts by {@link DOCUMENT}, and what is asked of all of its proxies at once. */
class Converting {
  readonly #up: Up;
  readonly #authorization: string;
  #told = 0;

  constructor(up: Up) {
    this.#up = up;
    this.#authorization = readFileSync(join(up.dir, 'webhook-authorization'), 'utf8').trim();
  }

  get proxies(): readonly string[] {
    return this.#up.cluster.proxies.map(({ url }) => url);
  }

  async push(repository: string, tag: string, content: Uint8Array): Promise<string> {
    return await pushFileImage(this.proxies[0]!, repository, tag, fileImage(content));
  }

  /** Tells another proxy than that which was pushed to. */
  async tell(type: string, repository: string, tag: string, digest: string): Promise<number> {
    this.#told += 1;
    const event = {
      type,
      occur_at: 1_763_917_200 + this.#told,
      event_data: {
        resources: [{ tag, digest, resource_url: `harbor.test/${repository}:${tag}` }],
        repository: { repo_full_name: repository },
      },
    };
    const headers = { authorization: this.#authorization };
    return (await sent('POST', () => `${this.proxies[1]!}/webhooks/harbor`, event, headers)).status;
  }

  async remove(repository: string, reference: string): Promise<void> {
    await deleteManifest(this.proxies[0]!, repository, reference);
  }

  /** What each proxy has there; undefined where it has nothing. */
  async manifests(repository: string, reference: string): Promise<(Made | undefined)[]> {
    const headers = { accept: `${OCI_MANIFEST}, ${OCI_INDEX}` };
    return await Promise.all(
      this.proxies.map(async (proxy) => {
        const url = `${proxy}/v2/${repository}/manifests/${reference}`;
        const answer = await callUntilAnswered('GET', url, { headers });
        if (answer.status === 404) return undefined;
        if (answer.status !== 200) throw new Error(`${repository}:${reference}: ${answer.status}`);
        return { ...answer.json<Made>(), digest: digestOf(answer.bytes) };
      }),
    );
  }

  /** Results that each proxy names as referrers of a digest. */
  async referrers(repository: string, digest: string): Promise<(readonly Made[])[]> {
    return await Promise.all(
      this.proxies.map(async (proxy) => {
        const answer = await callUntilAnswered('GET', `${proxy}/v2/${repository}/referrers/${digest}`);
        if (answer.status !== 200) throw new Error(`referrers of ${repository}@${digest}: ${answer.status}`);
        return answer.json<Made>().manifests ?? [];
      }),
    );
  }

  async untilMade(repository: string, tag: string, source: string): Promise<Made> {
    let made: (Made | undefined)[] = [];
    await until(
      async () => {
        made = await this.manifests(repository, tag);
        return made.every((one) => one?.annotations?.[SOURCE_ANNOTATION] === source);
      },
      `the result ${repository}:${tag}`,
      DONE_MS,
    );
    return made[0]!;
  }

  async untilGone(repository: string, reference: string): Promise<void> {
    await until(
      async () => (await this.manifests(repository, reference)).every((one) => one === undefined),
      `${repository}:${reference} is gone at every proxy`,
      DONE_MS,
    );
  }

  /** The tar of a result's only layer, read from the other proxy; its digest is checked. */
  async tarOf(repository: string, result: Made): Promise<Buffer> {
    const { digest } = result.layers![0]!;
    const { bytes } = await callUntilAnswered('GET', `${this.proxies[1]!}/v2/${repository}/blobs/${digest}`);
    if (digestOf(bytes) !== digest) throw new Error(`bytes of another digest than ${digest}`);
    return gunzipSync(bytes);
  }
}

t.test(
  'a cluster of processes: results under tags, in an index, as referrers; gone with their sources',
  async (t) => {
    const dir = join(t.testdir(), 'data');
    mkdirSync(join(dir, 'overrides'), { recursive: true });
    writeFileSync(join(dir, 'cluster-document.yaml'), JSON.stringify(DOCUMENT));
    writeFileSync(join(dir, 'overrides/accelerator.yaml'), JSON.stringify({ scan: '5s' }));
    await using up = await Up.start(dir, [
      ...['--origins', '3', '--proxies', '2', '--trackers', '1', '--agents', '0', '--accelerators', '2'],
      ...['--accelerate', '--restart', '--upstream', 'local=none,harbor.test', '--ports-from', '30500'],
    ]);
    const cluster = new Converting(up);
    const content = (seed: number): Buffer => Buffer.from(bytesOf(300_000, seed));
    const pushed = async (repository: string, tag: string, seed: number): Promise<string> => {
      const digest = await cluster.push(repository, tag, content(seed));
      t.equal(await cluster.tell('PUSH_ARTIFACT', repository, tag, digest), 202);
      return digest;
    };

    const [tagged, both, beside, kept] = await Promise.all([
      pushed('tagged/app', '1', 1),
      pushed('both/app', '1', 2),
      pushed('beside/app', '1', 3),
      pushed('beside/app', '2', 4),
    ]);
    const byTag = await cluster.untilMade('tagged/app', '1-estargz', tagged);
    t.ok((await cluster.tarOf('tagged/app', byTag)).includes(content(1)));
    const index = await cluster.untilMade('both/app', '1-estargz', both);
    t.equal(index.manifests?.[0]?.digest, both, 'the source comes first');
    const [inIndex] = await cluster.manifests('both/app', index.manifests![1]!.digest);
    t.ok((await cluster.tarOf('both/app', inIndex!)).includes(content(2)));
    const results: Made[] = [];
    for (const [seed, source] of [
      [3, beside],
      [4, kept],
    ] as const) {
      let lists: (readonly Made[])[] = [];
      await until(
        async () => {
          lists = await cluster.referrers('beside/app', source);
          return lists.every(({ length }) => length === 1);
        },
        `a referrer of ${source}`,
        DONE_MS,
      );
      t.equal(lists[0]![0]!.annotations?.[SOURCE_ANNOTATION], source);
      const [result] = await cluster.manifests('beside/app', lists[0]![0]!.digest);
      t.equal(result!.subject?.digest, source);
      t.ok((await cluster.tarOf('beside/app', result!)).includes(content(seed)));
      results.push(result!);
    }

    // By what Harbor tells.
    await cluster.remove('tagged/app', tagged);
    t.equal(await cluster.tell('DELETE_ARTIFACT', 'tagged/app', '1', tagged), 202);
    await cluster.untilGone('tagged/app', '1-estargz');
    await cluster.remove('beside/app', beside);
    t.equal(await cluster.tell('DELETE_ARTIFACT', 'beside/app', '1', beside), 202);
    await cluster.untilGone('beside/app', results[0]!.digest);
    await until(
      async () => (await cluster.referrers('beside/app', beside)).every(({ length }) => length === 0),
      'no referrer of what is gone is named',
      DONE_MS,
    );
    // By a scan: nobody tells of a tag alone.
    await cluster.remove('both/app', '1');
    await cluster.untilGone('both/app', '1-estargz');
    t.ok(
      (await cluster.manifests('both/app', both)).every((one) => one !== undefined),
      'the source without its tag stays',
    );

    t.match(await cluster.manifests('beside/app', results[1]!.digest), [{ digest: results[1]!.digest }, {}]);
    t.match(await cluster.referrers('beside/app', kept), [[{ digest: results[1]!.digest }], [{}]]);
    t.equal(await up.stop(), 0);
  },
);

t.test(
  'results of a second upstream of the cluster are its own, also with the first proxy dead',
  async (t) => {
    const dir = join(t.testdir(), 'data');
    await using up = await Up.start(dir, [
      ...['--origins', '1', '--proxies', '2', '--trackers', '1', '--agents', '0', '--accelerators', '1'],
      ...['--accelerate', '--upstream', 'pub=none,pub.example', '--upstream', 'corp=none,corp.example'],
      ...['--ports-from', '22500'],
    ]);
    const [first, second] = up.cluster.proxies;
    const get = async (name: string, path: string): ReturnType<typeof callUntilAnswered> =>
      await callUntilAnswered('GET', `${second!.url}/v2/${name}/${path}`, {
        headers: { accept: OCI_MANIFEST },
      });
    const untilResult = async (name: string): Promise<void> => {
      await until(
        async () => (await get(name, 'manifests/v1-estargz')).status === 200,
        `the result of ${name}`,
        DONE_MS,
      );
    };
    const push = async (proxy: string, name: string, seed: number): Promise<string> =>
      await pushFileImage(proxy, name, 'v1', fileImage(bytesOf(50_000, seed)));
    await push(first!.url, 'corp.example/fin/salary', 1);
    await untilResult('corp.example/fin/salary');
    for (const name of ['pub.example/fin/salary', 'fin/salary'])
      t.equal((await get(name, 'manifests/v1-estargz')).status, 404, `nothing in ${name}`);

    process.kill(first!.pid, 'SIGKILL');
    await push(second!.url, 'corp.example/fin/bonus', 2);
    await untilResult('corp.example/fin/bonus');
    t.equal((await get('fin/bonus', 'manifests/v1-estargz')).status, 404);
    t.equal(await up.stop(), 0);
  },
);
