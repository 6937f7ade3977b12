import { SingleFlight } from '@sepia/base/async/single-flight';
import { type Digest, digestOf } from '@sepia/base/digest';
import { parseRepositoryName } from '@sepia/base/names/repository';
import t from 'tap';
import { ImageCopy } from '../../src/replication/image-copy.ts';
import type { Target } from '../../src/replication/targets.ts';

const MEDIA_TYPE = 'application/vnd.oci.image.manifest.v1+json';
const REPOSITORY = parseRepositoryName('team/app');

function image(name: string): Buffer {
  const config = {
    mediaType: 'application/vnd.oci.image.config.v1+json',
    digest: digestOf(Buffer.from(name)),
    size: name.length,
  };
  return Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPE, config, layers: [] }));
}

const IMAGES = new Map(['first', 'later'].map(image).map((bytes) => [digestOf(bytes), bytes]));
const [FIRST, LATER] = [...IMAGES.keys()] as [Digest, Digest];

/** Copies a tag that points at the first image; `during` happens once, while its blobs are sent. */
async function copied(during: (here: Map<string, Digest>, there: Map<string, Digest>) => void) {
  const here = new Map([['v1', FIRST]]);
  const there = new Map<string, Digest>();
  const puts: string[] = [];
  let isOver = false;
  const target = {
    rule: { name: 'dr', referrers: { max: 0, depth: 0 } },
    matcher: { target: (repository: string) => repository, onlyWithSubject: () => false },
    client: {
      headManifest: async (_to: string, reference: string) => there.get(reference),
      hasBlob: async () => {
        if (!isOver) during(here, there);
        isOver = true;
        return true;
      },
      putManifest: async (_to: string, reference: string, { bytes }: { bytes: Buffer }) => {
        puts.push(reference);
        there.set(reference, digestOf(bytes));
      },
    },
    referrers: { there: async () => undefined, added: async () => undefined },
    gate: { acquire: async () => () => undefined },
    sending: new SingleFlight(),
    places: new Map(),
  } as unknown as Target;
  const deps = {
    manifests: {
      get: async (_name: unknown, { digest }: { digest: Digest }) => ({
        ...{ digest, bytes: IMAGES.get(digest)!, mediaType: MEDIA_TYPE },
      }),
    },
    tags: {
      read: async ({ tag }: { tag: string }) => (here.has(tag) ? { digest: here.get(tag)! } : undefined),
    },
    reader: {},
    referrersOf: async () => [],
    broughtBy: async () => [],
    nowMs: () => 0,
    onBytes: () => undefined,
  };
  const copy = new ImageCopy(deps as never, target, new AbortController().signal);
  await copy.run({ upstream: 'local', repository: REPOSITORY, reference: 'v1' });
  return { puts, tag: there.get('v1') };
}

t.test('a tag that stays is put at the target', async (t) => {
  t.same(await copied(() => undefined), { puts: ['v1'], tag: FIRST });
});

t.test('a later push that another origin brought meanwhile is not put over', async (t) => {
  const { puts, tag } = await copied((here, there) => {
    here.set('v1', LATER);
    there.set('v1', LATER);
  });
  t.same(puts, []);
  t.equal(tag, LATER);
});

t.test('a tag that moves meanwhile is brought as it is then', async (t) => {
  t.same(await copied((here) => void here.set('v1', LATER)), { puts: ['v1'], tag: LATER });
});

t.test('a tag that is deleted meanwhile is not put', async (t) => {
  t.same(await copied((here) => void here.delete('v1')), { puts: [], tag: undefined });
});
