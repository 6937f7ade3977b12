import { SingleFlight } from '@sepia/base/async/single-flight';
import { type Digest, digestOf } from '@sepia/base/digest';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { SlotGate } from '@sepia/upstream/slot-gate';
import t from 'tap';
import { ImageCopy } from '../../src/replication/image-copy.ts';
import type { Target } from '../../src/replication/targets.ts';

const MEDIA_TYPE = 'application/vnd.oci.image.manifest.v1+json';
const REPOSITORY = parseRepositoryName('team/app');

/** An image of these layers; its config is the first. */
function image(...names: string[]): Buffer {
  const [config, ...layers] = names.map((name) => ({
    mediaType: 'application/vnd.oci.image.layer.v1.tar',
    digest: digestOf(Buffer.from(name)),
    size: name.length,
  }));
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPE, config, layers }));
}

/** Copies to one target that takes one blob at once; `hasBlob` is asked for each of them. */
function copies(
  images: Readonly<Record<string, Buffer>>,
  hasBlob: (to: string, digest: Digest, signal: AbortSignal) => Promise<boolean>,
): (tag: string, signal?: AbortSignal) => Promise<void> {
  const bytesOf = new Map(Object.values(images).map((bytes) => [digestOf(bytes), bytes]));
  const target = {
    rule: { name: 'dr', referrers: { max: 0, depth: 0 } },
    matcher: { target: (repository: string) => repository, onlyWithSubject: () => false },
    client: { headManifest: async () => undefined, hasBlob, putManifest: async () => undefined },
    referrers: { there: async () => undefined, added: async () => undefined },
    gate: new SlotGate({ slots: 1, queueLimit: 100, waitMs: 60_000 }),
    sending: new SingleFlight(),
    places: new Map(),
  } as unknown as Target;
  const get = async (_name: unknown, { digest }: { digest: Digest }) => {
    return { digest, bytes: bytesOf.get(digest)!, mediaType: MEDIA_TYPE };
  };
  const read = async ({ tag }: { tag: string }) => ({ digest: digestOf(images[tag]!) });
  const deps = { manifests: { get }, tags: { read }, referrersOf: async () => [], nowMs: () => 0 };
  return async (tag, signal = new AbortController().signal) =>
    await new ImageCopy(deps as unknown as ConstructorParameters<typeof ImageCopy>[0], target, signal).run({
      upstream: 'local',
      repository: REPOSITORY,
      reference: tag,
    });
}

t.test('an image of many layers holds up no other: they take turns at their target', async (t) => {
  const large = ['l0', 'l1', 'l2', 'l3', 'l4', 'l5', 'l6', 'l7'];
  const names = new Map([...large, 's0', 's1'].map((name) => [digestOf(Buffer.from(name)), name]));
  const order: string[] = [];
  const copy = copies({ large: image(...large), small: image('s0', 's1') }, async (_to, digest) => {
    order.push(names.get(digest)!);
    return true;
  });
  await Promise.all([copy('large'), copy('small')]);
  t.equal(order.length, 10);
  t.ok(order.indexOf('s1') < order.indexOf('l4'), order.join(' '));
});

t.test('a blob that two images have is sent on when the copy that began it is cancelled', async (t) => {
  const begun = Promise.withResolvers<void>();
  const there = Promise.withResolvers<boolean>();
  let asked = 0;
  const copy = copies(
    { one: image('shared', 'a'), other: image('shared', 'a', 'a') },
    async (_to, _, signal) => {
      asked += 1;
      begun.resolve();
      return await new Promise<boolean>((resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason), { once: true });
        void there.promise.then(resolve);
      });
    },
  );
  const cancel = new AbortController();
  const one = copy('one', cancel.signal);
  await begun.promise;
  const other = copy('other');
  await new Promise((resolve) => setImmediate(resolve));
  cancel.abort(new Error('cancelled'));
  await t.rejects(one, { message: 'cancelled' });
  there.resolve(true);
  await other;
  t.equal(asked, 2, 'each of the two blobs is sent once');
});
