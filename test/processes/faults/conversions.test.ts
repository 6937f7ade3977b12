import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { digestOf } from '@sepia/base/digest';
import { delay } from '@sepia/base/lifecycle';
import { SOURCE_ANNOTATION } from '@sepia/lazy/convert/documents';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { fileImage, pushFileImage } from '@sepia/test-support/clients/file-image';
import { bytesOf, SEED, seeded } from '@sepia/test-support/seeded';
import { until } from '@sepia/test-support/until';
import { Up } from '@sepia/test-support/up';
import { call } from '@sepia/test-support/upstream/harbor-calls';
import t from 'tap';
import { request } from 'undici';

/** Rounds of kill -9; more before a release: `ROUNDS=50`. */
const ROUNDS = Number(process.env['ROUNDS'] ?? 4);
/** Tags move: several rounds push the same. */
const TAGS = 6;
const PUSHES_PER_ROUND = 3;
const LAYER_BYTES = 1_500_000;
/** `sepia up` gives a killed member 60 s, and after that another try. */
const READY_MS = 180_000;
const DONE_MS = 240_000;
const REPOSITORY = 'team/app';
const FAULTS_AT_ONCE = ['accelerator', 'proxy', 'origin', 'all of a kind'] as const;

interface Manifest {
  readonly annotations: Record<string, string>;
  readonly layers: readonly { readonly digest: string }[];
}

t.test(
  `${ROUNDS} rounds of kill -9 in mid-job: each webhook that was taken ends in one right result (SEED=${SEED})`,
  async (t) => {
    const chance = seeded(SEED);
    const pick = <T>(list: readonly T[]): T => list[Math.floor(chance() * list.length)]!;
    await using up = await Up.start(join(t.testdir(), 'data'), [
      ...['--origins', '3', '--proxies', '2', '--trackers', '1', '--agents', '0', '--accelerators', '2'],
      ...['--accelerate', '--restart', '--upstream', 'local=none,harbor.test', '--ports-from', '22000'],
    ]);
    const { origins, proxies, accelerators } = up.cluster;
    const authorization = readFileSync(join(up.dir, 'webhook-authorization'), 'utf8').trim();
    const newest = new Map<string, { readonly source: string; readonly content: Uint8Array }>();

    const pushed = async (tag: string, serial: number): Promise<void> => {
      const content = bytesOf(LAYER_BYTES, SEED + serial);
      const image = fileImage(content);
      let source = '';
      await acknowledged(`push of ${tag}`, async () => {
        source = await pushFileImage(pick(proxies).url, REPOSITORY, tag, image);
        return true;
      });
      const event = {
        type: 'PUSH_ARTIFACT',
        occur_at: 1_763_917_200 + serial,
        event_data: {
          resources: [{ tag, digest: source, resource_url: `harbor.test/${REPOSITORY}:${tag}` }],
          repository: { repo_full_name: REPOSITORY },
        },
      };
      await acknowledged(`webhook of ${tag}`, async () => {
        const hook = `${pick(proxies).url}/webhooks/harbor`;
        return (await call('POST', hook, event, { authorization })).status === 202;
      });
      newest.set(tag, { source, content });
    };

    let serial = 0;
    for (let round = 0; round < ROUNDS; round += 1) {
      const tags = Array.from({ length: PUSHES_PER_ROUND }, (_, at) => `t${(round + at * 2) % TAGS}`);
      const pushes = tags.map((tag) => pushed(tag, ++serial));
      // In the middle of the pushes in half of the rounds, of the jobs that they made in the others.
      if (round % 2 === 0) await Promise.all(pushes);
      await delay(Math.floor(chance() * 3_000));
      const kind = FAULTS_AT_ONCE[round % FAULTS_AT_ONCE.length];
      const one = { accelerator: [pick(accelerators)], proxy: [pick(proxies)], origin: [pick(origins)] };
      const victims = kind === 'all of a kind' ? pick([accelerators, proxies, origins]) : one[kind!];
      const killed = victims.map((victim) => ({ victim, pid: up.member(victim.name).pid }));
      for (const { pid } of killed) process.kill(pid, 'SIGKILL');
      for (const { victim, pid } of killed) await up.back(victim, pid);
      await Promise.all(pushes);
    }

    for (const [tag, { source, content }] of newest) {
      let made: Manifest | undefined;
      await until(
        async () => {
          made = await manifestOf(pick(proxies).url, `${tag}-estargz`);
          return made?.annotations[SOURCE_ANNOTATION] === source;
        },
        `the result of the newest ${tag}`,
        DONE_MS,
      );
      const { digest } = made!.layers[0]!;
      const layer = await until(
        async () => {
          const answer = await request(`${pick(proxies).url}/v2/${REPOSITORY}/blobs/${digest}`);
          const bytes = Buffer.from(await answer.body.arrayBuffer());
          return answer.statusCode === 503 ? undefined : bytes;
        },
        `the layer of ${tag}`,
        READY_MS,
      );
      t.equal(digestOf(layer), digest, `${tag}: bytes of its digest`);
      t.ok(gunzipSync(layer).includes(Buffer.from(content)), `${tag}: the file is in it`);
    }
  },
);

/** Asks until it is taken, as who sends it does; silence and refusals on the way are what a killed member gives. */
async function acknowledged(what: string, ask: () => Promise<boolean>): Promise<void> {
  await until(
    async () =>
      await ask().catch((error: unknown) => {
        if (error instanceof TypeError || error instanceof ReferenceError) throw error;
        return false;
      }),
    what,
    READY_MS,
  );
}

async function manifestOf(proxy: string, tag: string): Promise<Manifest | undefined> {
  const answer = await request(`${proxy}/v2/${REPOSITORY}/manifests/${tag}`, {
    headers: { accept: OCI_MANIFEST },
  });
  const text = await answer.body.text();
  return answer.statusCode === 200 ? (JSON.parse(text) as Manifest) : undefined;
}
