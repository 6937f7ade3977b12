import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, digestOf } from '@sepia/base/digest';
import { call, pushBlob } from '@sepia/test-support/clients/registry-calls';
import { askAs } from '@sepia/test-support/clients/token-client';
import { Constellation } from '@sepia/test-support/cluster/constellation';
import { ALICE } from '@sepia/test-support/cluster/private-cluster';
import {
  type FakeImage,
  FakeUpstream,
  type Misbehaviour,
  makeImage,
} from '@sepia/test-support/upstream/fake-upstream';
import t, { type Test } from 'tap';

const LAYER_BYTES = 2_500_000;
const SMALL_BYTES = 5_000;

/** What an upstream may do that knows the digests of another one's content and answers every HEAD with 200. */
const TRICKS: Readonly<Record<string, (sizeBytes: number) => Misbehaviour>> = {
  'GET is 404': () => ({ type: 'status', status: 404 }),
  'other bytes of the same length': () => ({ type: 'lie' }),
  'the right beginning, then nothing': (sizeBytes) => ({ type: 'stall', afterBytes: sizeBytes >> 1 }),
  'the right beginning, then a cut': (sizeBytes) => ({ type: 'cut', afterBytes: sizeBytes >> 1 }),
  'headers and no byte': () => ({ type: 'stall', afterBytes: 0 }),
};

interface Both extends AsyncDisposable {
  readonly cluster: Constellation;
  /** Private to alice. */
  readonly priv: FakeUpstream;
  /** Everything in it is public; it has whatever it is given. */
  readonly other: FakeUpstream;
  readonly agent: string;
  readonly proxy: string;
}

async function startBoth(t: Test): Promise<Both> {
  const mayPull = (user: string | undefined): boolean => user === 'alice';
  const priv = await FakeUpstream.start({
    auth: { type: 'token', users: { alice: ALICE.password }, mayPull },
  });
  const other = await FakeUpstream.start();
  const cluster = await Constellation.start(t.testdir(), {
    trackers: 1,
    proxies: 1,
    agents: 1,
    origin: { deadlines: { 'fetch-progress': '2s', 'first-byte': '2s', 'body-stall': '3s' } },
    agent: { 'back-to-source': { mode: 'never' }, deadlines: { 'download-progress': '4s' } },
    upstreams: [
      { name: 'local', mode: 'none' },
      { name: 'priv', url: priv.url, mode: 'pull-through', hosts: ['priv.test'] },
      { name: 'other', url: other.url, mode: 'pull-through', hosts: ['other.test'] },
    ],
  });
  const stop = async (): Promise<void> => {
    await cluster.stop();
    await Promise.all([priv.stop(), other.stop()]);
  };
  const [agent, proxy] = [cluster.agents[0]!.url, cluster.proxyUrls[0]!];
  return { cluster, priv, other, agent, proxy, [Symbol.asyncDispose]: stop };
}

/** Content that is private at one place and in every cache: pulled by alice, or pushed to `local`. */
async function keepSecret(here: Both, where: 'priv' | 'local', image: FakeImage): Promise<void> {
  const { priv, agent, proxy } = here;
  const { manifest } = image;
  if (where === 'priv') priv.push('alice/app', image, 'v1');
  else {
    for (const bytes of image.blobs.values()) await pushBlob(proxy, 'team/app', bytes);
    const headers = { 'content-type': manifest.mediaType };
    await call('PUT', `${proxy}/v2/team/app/manifests/v1`, { body: manifest.bytes, headers });
  }
  for (const base of [agent, proxy]) {
    const root = where === 'priv' ? `${base}/v2/alice/app` : `${base}/v2/team/app`;
    const ns = where === 'priv' ? '?ns=priv.test' : '';
    for (const path of [
      `manifests/${manifest.digest}`,
      ...[...image.blobs.keys()].map((one) => `blobs/${one}`),
    ]) {
      const { status } = await askAs(ALICE, `${root}/${path}${ns}`);
      if (status !== 200) throw new Error(`${where}: ${path}: ${status}`);
    }
  }
}

/** Status of a request; one that hangs is given up. */
async function statusOf(method: 'GET' | 'HEAD', url: string, range?: string): Promise<number> {
  const headers = range === undefined ? {} : { range: `bytes=${range}` };
  const asked = call(method, url, { headers }).then(
    ({ status }) => status,
    () => 0,
  );
  const late = new Promise<number>((resolve) => void setTimeout(resolve, 20_000, 0).unref());
  return await Promise.race([asked, late]);
}

for (const where of ['priv', 'local'] as const)
  t.test(`content of ${where} opens nothing at an upstream that only answers HEAD`, async (t) => {
    await using here = await startBoth(t);
    for (const [at, [what, doing]] of Object.entries(TRICKS).entries()) {
      const image = makeImage({ layers: [LAYER_BYTES, SMALL_BYTES], seed: `${where} ${at}` });
      await keepSecret(here, where, image);
      const repository = `grab/app${at}`;
      here.other.push(repository, image, 'v1');
      for (const [digest, bytes] of image.blobs)
        here.other.misbehave({ method: 'GET', path: digest, does: doing(bytes.length) });
      const isGone = doing(0).type === 'status';
      if (isGone) here.other.misbehave({ method: 'GET', path: `${repository}/manifests`, does: doing(0) });
      await t.test(what, async (t) => {
        for (const base of [here.agent, here.proxy]) {
          const root = `${base}/v2/${repository}`;
          for (const digest of image.layers) {
            const url = `${root}/blobs/${digest}?ns=other.test`;
            if (isGone) t.not(await statusOf('HEAD', url), 200, 'HEAD');
            t.not(await statusOf('GET', url, '0-99'), 206, 'the beginning');
            t.not(await statusOf('GET', url, '2000-2099'), 206, 'a range');
            t.not(await statusOf('GET', url), 200, 'the whole blob');
          }
          const manifest = `${root}/manifests/${image.manifest.digest}?ns=other.test`;
          if (isGone) t.not(await statusOf('GET', manifest), 200, 'the manifest');
        }
      });
      here.other.behave();
    }
  });

t.test(
  'what only the cache of an agent holds opens nothing while another upstream is still sending',
  async (t) => {
    await using here = await startBoth(t);
    const image = makeImage({ layers: [LAYER_BYTES, SMALL_BYTES], seed: 'cache' });
    await keepSecret(here, 'priv', image);
    for (const id of ['origin-1', 'origin-2', 'origin-3']) {
      await here.cluster.stopMember(id);
      for (const part of ['blobs', 'meta'])
        await rm(join(here.cluster.dataOf(id), 'v1', part), { recursive: true, force: true });
      await here.cluster.startMember(id);
    }
    here.other.push('grab/app', image, 'v1');
    for (const [digest, bytes] of image.blobs) {
      const half = { type: 'stall', afterBytes: bytes.length >> 1 } as const;
      here.other.misbehave({ method: 'GET', path: digest, times: 1, does: half });
      here.other.misbehave({ method: 'GET', path: digest, skip: 1, does: { type: 'stall', afterBytes: 0 } });
    }
    for (const digest of image.layers) {
      const url = `${here.agent}/v2/grab/app/blobs/${digest}?ns=other.test`;
      t.not(await statusOf('GET', url, `-100`), 206, 'the end, which was never sent');
      t.not(await statusOf('GET', url), 200, 'the whole blob');
    }
  },
);

t.test('what another upstream really has is served under it, for its bytes once', async (t) => {
  await using here = await startBoth(t);
  const image = makeImage({ layers: [LAYER_BYTES, SMALL_BYTES], seed: 'shared' });
  await keepSecret(here, 'priv', image);
  here.other.push('pub/app', image, 'v1');
  here.other.push('pub/app2', image, 'v1');
  for (const repository of ['pub/app', 'pub/app2'])
    for (const base of [here.agent, here.proxy])
      for (const digest of image.layers) {
        const answer = await call('GET', `${base}/v2/${repository}/blobs/${digest}?ns=other.test`);
        t.equal(answer.status, 200, `${repository} at ${base}`);
        t.equal(digestOf(answer.bytes), digest);
      }
  const bodies = (digest: Digest): number =>
    here.other.requests('blob', 'GET').filter((entry) => entry.path.includes(digest) && entry.sentBytes > 0)
      .length;
  for (const digest of image.layers) t.equal(bodies(digest), 1, 'one body for the whole cluster');
  await Promise.all(['origin-1', 'origin-2', 'origin-3'].map((id) => here.cluster.restartMember(id)));
  const again = await call('GET', `${here.proxy}/v2/pub/app/blobs/${image.layers[0]}?ns=other.test`);
  t.equal(again.status, 200);
  t.equal(bodies(image.layers[0]!), 1, 'remembered beside the blob');
});
