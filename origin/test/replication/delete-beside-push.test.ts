import { SingleFlight } from '@sepia/base/async/single-flight';
import { type Digest, digestOf } from '@sepia/base/digest';
import { parseRepositoryName } from '@sepia/base/names/repository';
import t from 'tap';
import { deleteAtTarget, ImageCopy } from '../../src/replication/image-copy.ts';
import type { Target } from '../../src/replication/targets.ts';

const MEDIA_TYPE = 'application/vnd.oci.image.manifest.v1+json';
const NAME = { upstream: 'local', repository: parseRepositoryName('team/app'), reference: 'v1' };
const CONFIG = {
  mediaType: 'application/vnd.oci.image.config.v1+json',
  digest: digestOf(Buffer.of(1)),
  size: 1,
};
const BYTES = Buffer.from(
  JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPE, config: CONFIG, layers: [] }),
);
const IMAGE = digestOf(BYTES);

/** A tag that is gone here, or not, and at its target; `onDelete` happens before the delete takes it there. */
class Scene {
  readonly here = new Map<string, Digest>();
  readonly there = new Map<string, Digest>([['v1', IMAGE]]);
  onDelete: () => void | Promise<void> = () => undefined;
  deletes = 0;

  async run(): Promise<void> {
    const { signal } = new AbortController();
    const target = {
      rule: { name: 'dr', delete: true, referrers: { max: 0, depth: 0 } },
      matcher: { target: (repository: string) => repository, onlyWithSubject: () => false },
      client: {
        headManifest: async (_to: string, reference: string) => this.there.get(reference),
        hasBlob: async () => true,
        putManifest: async (_to: string, reference: string) => void this.there.set(reference, IMAGE),
        deleteManifest: async (_to: string, reference: string) => {
          this.deletes += 1;
          await this.onDelete();
          this.there.delete(reference);
        },
      },
      referrers: { there: async () => undefined, added: async () => undefined },
      gate: { acquire: async () => () => undefined },
      sending: new SingleFlight(),
      places: new Map(),
    } as unknown as Target;
    const tags = {
      read: async ({ tag }: { tag: string }) =>
        this.here.has(tag) ? { digest: this.here.get(tag)! } : undefined,
    };
    const deps = {
      manifests: { get: async () => ({ digest: IMAGE, bytes: BYTES, mediaType: MEDIA_TYPE }) },
      tags,
      reader: {},
      referrersOf: async () => [],
      broughtBy: async () => [],
      nowMs: () => 0,
      onBytes: () => undefined,
    };
    const copy = new ImageCopy(deps as never, target, signal);
    await deleteAtTarget({ tags } as never, target, { name: NAME, copy }, signal);
  }
}

t.test('a tag that is gone here goes at the target', async (t) => {
  const scene = new Scene();
  await scene.run();
  t.equal(scene.there.size, 0);
});

t.test('a push whose copy found its tag at the target, a moment before the delete got there', async (t) => {
  const scene = new Scene();
  scene.onDelete = () => void scene.here.set('v1', IMAGE);
  await scene.run();
  t.equal(scene.there.get('v1'), IMAGE, 'it is there in the end');
});

t.test('a delete whose answer was lost, beside a push', async (t) => {
  const scene = new Scene();
  scene.onDelete = () => {
    scene.here.set('v1', IMAGE);
    scene.there.delete('v1');
    throw new Error('no answer');
  };
  await t.rejects(scene.run(), { message: 'no answer' });
  await scene.run();
  t.equal(scene.deletes, 1, 'what is here again is not taken away');
  t.equal(scene.there.get('v1'), IMAGE, 'the next try brings it');
});
