import { type Digest, digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { type Logger, silentLogger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import type { ResolvedName } from '@sepia/base/names/upstream-name';
import type { LazyAnswer } from '@sepia/cluster/api/lazy-offers';
import type { Cluster } from '@sepia/cluster/cluster';
import { OCI_CONFIG } from '@sepia/lazy/convert/documents';
import { OCI_MANIFEST } from '@sepia/oci/manifest';
import { until } from '@sepia/test-support/until';
import t from 'tap';
import { PulledImages } from '../../src/lazy/core/pulled-images.ts';
import { LazyImages } from '../../src/lazy/lazy-images.ts';
import { Offers } from '../../src/lazy/offers.ts';

const NEVER = new AbortController().signal;
const TARGET = { upstream: 'up', repository: parseRepositoryName('team/app') };
const nowMs = (): number => performance.now();
const digest = (text: string) => digestOf(Buffer.from(text), 'sha256');

const CONFIG = Buffer.from(JSON.stringify({ rootfs: { type: 'layers', diff_ids: [digest('of another')] } }));
const MANIFEST = Buffer.from(
  JSON.stringify({
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: { mediaType: OCI_CONFIG, digest: digestOf(CONFIG, 'sha256'), size: CONFIG.length },
    layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: digest('layer'), size: 9 }],
  }),
);

/** Names `rootfs` twice: readers differ. */
const ODD_CONFIG = Buffer.from(CONFIG.toString().replace('{', '{"rootfs":{},'));
const ODD_MANIFEST = Buffer.from(
  MANIFEST.toString().replace(digestOf(CONFIG, 'sha256'), digestOf(ODD_CONFIG, 'sha256')),
);

const NONE_BEFORE = { begin: () => undefined, of: async () => undefined };

/** Lines of a log. */
function logOf(): { log: Logger; lines: object[] } {
  const lines: object[] = [];
  const warn = (facts: object, message: string): void => void lines.push({ ...facts, message });
  return { log: { ...silentLogger(), warn } as unknown as Logger, lines };
}

/** A node whose cluster knows no layer, and whose snapshotter answers as `says`; undefined: it takes the offer and is silent. */
async function pull(
  says: readonly (LazyAnswer | undefined)[],
  options: ConstructorParameters<typeof LazyImages>[1] = { waitMs: 20_000 },
): Promise<number> {
  const offers = new Offers({ nowMs });
  const unknown = async (): Promise<never> => {
    throw new CodedError('BLOB_UNKNOWN');
  };
  const cluster = { document: { conversions: [] }, upstream: () => ({}) } as unknown as Cluster;
  const images = new LazyImages(
    {
      cluster,
      clusterKey: Buffer.alloc(32),
      proxies: { json: unknown } as never,
      offers,
      former: NONE_BEFORE,
      log: silentLogger(),
      nowMs,
    },
    options,
  );
  images.note(TARGET, { digest: digestOf(MANIFEST, 'sha256'), bytes: MANIFEST } as never);
  const over = new AbortController();
  let asked = 0;
  const snapshotter = (async () => {
    while (!over.signal.aborted)
      for (const { id } of await offers.next(1_000, over.signal)) {
        const answer = says[asked++];
        if (answer !== undefined) offers.answer(id, answer);
      }
  })();
  try {
    const name = { ...TARGET, digest: digestOf(CONFIG, 'sha256') };
    await images.beforeBlob(name, async () => CONFIG, { isRuntime: true, signal: NEVER });
    return asked;
  } finally {
    over.abort();
    await snapshotter;
  }
}

t.test('a config of which the snapshotter says nothing does not go out', { timeout: 60_000 }, async (t) => {
  await t.rejects(pull([], { waitMs: 50, doubtMs: 200 }), {
    code: 'LAYER_UNPROVEN',
    message: /did not say in time/,
  });
});

t.test('it goes out once it said so', { timeout: 60_000 }, async (t) => {
  t.equal(await pull([{ isShown: false }]), 1);
});

t.test(
  'why a pull is refused is in the log, once, and told to the snapshotter',
  { timeout: 60_000 },
  async (t) => {
    const { log, lines } = logOf();
    const offers = new Offers({ nowMs });
    const images = new LazyImages(
      {
        cluster: { document: { conversions: [] }, upstream: () => ({}) } as unknown as Cluster,
        clusterKey: Buffer.alloc(32),
        proxies: {} as never,
        ...{ offers, former: NONE_BEFORE, log, nowMs },
      },
      { waitMs: 50 },
    );
    const manifest = digestOf(ODD_MANIFEST, 'sha256');
    images.note(TARGET, { digest: manifest, bytes: ODD_MANIFEST } as never);
    const polled = offers.next(10_000, NEVER);
    const pullIt = async (): Promise<void> =>
      await images.beforeBlob({ ...TARGET, digest: digestOf(ODD_CONFIG, 'sha256') }, async () => ODD_CONFIG, {
        isRuntime: true,
        signal: NEVER,
      });
    const reason = 'its config names rootfs or diff_ids in two ways';
    await t.rejects(pullIt(), { code: 'LAYER_UNPROVEN', message: new RegExp(reason) });
    const told = await polled;
    t.match(told, [{ manifest, layers: [], reason: `its pull is refused: ${reason}` }]);
    offers.answer(told[0]!.id, { isShown: false });
    await t.rejects(pullIt(), { code: 'LAYER_UNPROVEN' });
    t.match(lines, [{ code: 'LAYER_UNPROVEN', manifest, repository: 'team/app', reason }]);
    t.equal(lines.length, 1);
  },
);

/** An agent whose upstream is as `upstream` says, and a node whose snapshotter is there. */
function agentOf(
  upstream: object,
  options: ConstructorParameters<typeof LazyImages>[1] = { waitMs: 20_000 },
  former: ConstructorParameters<typeof LazyImages>[0]['former'] = NONE_BEFORE,
): { images: LazyImages; offers: Offers; lines: object[] } {
  const { log, lines } = logOf();
  const offers = new Offers({ nowMs });
  const unknown = async (): Promise<never> => {
    throw new CodedError('BLOB_UNKNOWN');
  };
  const cluster = { document: { conversions: [] }, upstream: () => upstream } as unknown as Cluster;
  const clusterKey = Buffer.alloc(32);
  const proxies = { json: unknown } as never;
  return {
    images: new LazyImages({ cluster, clusterKey, proxies, offers, former, log, nowMs }, options),
    offers,
    lines,
  };
}

const ANSWER = { digest: digestOf(MANIFEST, 'sha256'), bytes: MANIFEST } as never;
const CONFIG_NAME = { ...TARGET, digest: digestOf(CONFIG, 'sha256') };
const COMING = { config: CONFIG_NAME, manifest: ANSWER };

t.test('where only clients’ credentials read an upstream its images are never lazy, by name', async (t) => {
  const { images, offers } = agentOf({ 'fetch-with': 'client' });
  const polled = offers.next(20_000, NEVER);
  images.note(TARGET, ANSWER);
  const pulled = images.beforeBlob(CONFIG_NAME, async () => CONFIG, { isRuntime: true, signal: NEVER });
  const [offer] = await polled;
  t.match(offer?.reason, /^upstream up is read with .* \(fetch-with: client\)$/);
  offers.answer(offer!.id, { isShown: false });
  await pulled;
});

t.test('an image that comes before its pull is offered as at one; a refusal ends nothing', async (t) => {
  const { images, offers, lines } = agentOf({});
  const polled = offers.next(20_000, NEVER);
  const coming = images.ahead([COMING], async () => CONFIG, NEVER);
  const [offer] = await polled;
  t.match(offer, { repository: 'team/app', layers: [{ digest: digest('layer') }] });
  offers.answer(offer!.id, { isShown: false, refusal: 'it names another image’s layer' });
  await coming;
  t.match(lines, [{ code: 'LAYER_UNPROVEN' }, { repository: 'team/app' }]);
  const again = offers.next(20_000, NEVER);
  const left = new AbortController();
  const ended = images.ahead([COMING], async () => CONFIG, left.signal);
  const [open] = await again;
  left.abort(new CodedError('DRAINING'));
  await t.rejects(ended, { code: 'DRAINING' }, 'the command itself was ended');
  offers.answer(open!.id, { isShown: false });
});

t.test(
  'images that come together share one time: one that nobody says anything of takes none from the layers behind',
  { timeout: 60_000 },
  async (t) => {
    const { images, offers } = agentOf({}, { waitMs: 500, aheadMs: 1_500 });
    const other = Buffer.from(MANIFEST.toString().replace(digest('layer'), digest('another layer')));
    const second = {
      config: CONFIG_NAME,
      manifest: { digest: digest(other.toString()), bytes: other } as never,
    };
    const over = new AbortController();
    const asked = new Set<string>();
    const snapshotter = (async () => {
      while (!over.signal.aborted)
        for (const { manifest } of await offers.next(1_000, over.signal)) asked.add(manifest);
    })();
    await images.ahead([COMING, second], async () => CONFIG, NEVER);
    over.abort();
    await snapshotter;
    t.same([...asked], [digestOf(MANIFEST, 'sha256')], 'the time was over after the first');
  },
);

t.test(
  'an image whose manifest a runtime has from before this process is judged by its config alone',
  { timeout: 60_000 },
  async (t) => {
    const before = new PulledImages();
    before.note(TARGET, { digest: digestOf(MANIFEST, 'sha256'), bytes: MANIFEST });
    const former = {
      begin: () => undefined,
      of: async (target: ResolvedName, config: Digest) => before.of(target, config),
    };
    const { images, offers } = agentOf({}, { waitMs: 500, doubtMs: 1_000 }, former);
    const over = new AbortController();
    const polled = offers.next(20_000, over.signal);
    const pulled = images.beforeBlob(CONFIG_NAME, async () => CONFIG, { isRuntime: true, signal: NEVER });
    await t.rejects(pulled, { code: 'LAYER_UNPROVEN' }, 'nobody said what its layers would show');
    t.match(await polled, [{ repository: 'team/app' }]);
    over.abort();
  },
);

t.test(
  'an image that the queue did not take is handed to it by the next pull',
  { timeout: 60_000 },
  async (t) => {
    const rule = { name: 'lazy', from: 'up', to: 'index', repositories: ['**'], 'min-size': 0 };
    const cluster = { document: { conversions: [rule] }, upstream: () => ({}) } as unknown as Cluster;
    let handed = 0;
    let told = Promise.withResolvers<void>();
    const json = async ({ path }: { path: string }): Promise<object> => {
      if (!path.includes('conversions')) return {};
      handed += 1;
      told.resolve();
      if (handed === 1) throw new CodedError('NO_PEERS');
      return {};
    };
    const { log, lines } = logOf();
    const images = new LazyImages(
      {
        cluster,
        clusterKey: Buffer.alloc(32),
        proxies: { json } as never,
        ...{ offers: new Offers({ nowMs }), former: NONE_BEFORE, log, nowMs },
      },
      { waitMs: 50 },
    );
    images.note(TARGET, { digest: digestOf(MANIFEST, 'sha256'), bytes: MANIFEST } as never);
    const name = { ...TARGET, digest: digestOf(CONFIG, 'sha256') };
    const pullIt = async (): Promise<void> =>
      await images.beforeBlob(name, async () => CONFIG, { isRuntime: true, signal: NEVER });
    await pullIt();
    await told.promise;
    await until(() => lines.length === 1, 'it is logged that it failed');
    told = Promise.withResolvers();
    await pullIt();
    await told.promise;
    t.equal(handed, 2);
  },
);

t.test('an image is not given to a snapshotter that has left, but to the next that asks', async (t) => {
  const offers = new Offers({ nowMs });
  const over = new AbortController();
  const left = offers.next(60_000, over.signal);
  const image = { ...TARGET, manifest: digest('m'), isNydus: false, layers: [] };
  const said = offers.offer(image as never, 60_000);
  over.abort();
  t.same(await left, []);
  const [given] = await offers.next(0, NEVER);
  t.match(given, { manifest: digest('m') });
  offers.answer(given!.id, { isShown: false });
  t.match(await said, { isShown: false });
});
