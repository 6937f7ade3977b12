import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type PushedImage,
  pullUntilGiven,
  pushUntilTaken,
  randomImage,
} from '@sepia/test-support/clients/registry-client';
import { until } from '@sepia/test-support/until';
import { Up } from '@sepia/test-support/up';
import { TestTarget } from '@sepia/test-support/upstream/test-target';
import t from 'tap';

const MIB = 1024 * 1024;
const HOST = 'hub.test';
/** Less than what is pushed: what may go goes. */
const BUDGET = '3MiB';
const LONG_MS = 240_000;

/** Origins that have a file of the blob. */
function holders(up: Up, digest: string): string[] {
  const hex = digest.slice('sha256:'.length);
  return up.cluster.origins
    .map(({ name }) => name)
    .filter((name) => existsSync(join(up.dir, 'members', name, 'v1/blobs/sha256', hex.slice(0, 2), hex)));
}

const layersOf = (images: readonly PushedImage[]): string[] =>
  images.flatMap((image) => image.layers.map(({ digest }) => digest));

t.test('what the registry has makes room, through kill -9 of each origin; what waits stays', async (t) => {
  const target = await TestTarget.start(t);
  const dir = join(t.testdir(), 'data');
  mkdirSync(join(dir, 'overrides'), { recursive: true });
  const cache = { budget: BUDGET, high: 0.5, low: 0.1 };
  writeFileSync(join(dir, 'overrides/origin.yaml'), JSON.stringify({ cache }));
  await using up = await Up.start(dir, [
    ...['--origins', '3', '--trackers', '1', '--proxies', '1', '--agents', '1', '--restart'],
    ...['--upstream', `hub=${target.url},${HOST}`, '--write-back', 'hub', '--ports-from', '32000'],
  ]);
  const [proxy] = up.cluster.proxies;
  const push = async (repository: string, tag: string, image: PushedImage): Promise<void> =>
    await pushUntilTaken(() => proxy!.url, `${HOST}/${repository}`, tag, image);
  // The registry takes nothing of one repository.
  target.fault = (method, path) =>
    (method === 'PUT' || method === 'POST') && path.startsWith('/v2/team/late/')
      ? { status: 503 }
      : undefined;
  const late = [0, 1].map((at) => randomImage([MIB + at, 400_000 + at]));
  const images = Array.from({ length: 5 }, (_, at) => randomImage([MIB + at, 300_000 + at]));
  for (const [at, image] of late.entries()) await push('team/late', `v${at}`, image);
  for (const [at, image] of images.entries()) await push('team/app', `v${at}`, image);
  for (const origin of up.cluster.origins) {
    const { pid } = up.member(origin.name);
    process.kill(pid, 'SIGKILL');
    await up.back(origin, pid);
  }
  await until(
    () => layersOf(images).filter((digest) => holders(up, digest).length === 0).length >= 3,
    'layers are at no origin any more',
    LONG_MS,
  );
  for (const digest of layersOf(images).filter((one) => holders(up, one).length === 0))
    t.ok(target.blobs.has(`team/app@${digest}`), 'what went is at the registry');
  for (const digest of layersOf(late)) t.ok(holders(up, digest).length >= 2, 'what waits stays');
  const [agent] = up.cluster.agents;
  for (const at of images.keys())
    t.ok(
      (await pullUntilGiven(agent!.url, 'team/app', `v${at}`, HOST)) > MIB,
      'pulled again, digests checked',
    );
  target.fault = () => undefined;
  await until(
    () => layersOf(late).every((digest) => target.blobs.has(`team/late@${digest}`)),
    'what waited came there too',
    LONG_MS,
  );
  await until(
    () => late.every((image, at) => target.manifests.get(`team/late:v${at}`) === image.manifestDigest),
    'and its tags',
    LONG_MS,
  );
});
