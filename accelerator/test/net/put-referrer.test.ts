import { digestOf } from '@sepia/base/digest';
import { type Document, documentOf } from '@sepia/lazy/convert/documents';
import { OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import { referrersTag } from '@sepia/upstream/referrers/referrer-list';
import type { TargetClient } from '@sepia/upstream/target-client';
import t from 'tap';
import { putReferrer, referrerOf } from '../../src/net/put-referrer.ts';
import type { ResultRegistry } from '../../src/net/result-registries.ts';

const SIGNAL = new AbortController().signal;
const IMAGE = Buffer.from(
  JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: [], annotations: {} }),
);
const SUBJECT = digestOf(IMAGE);
const TAG = referrersTag(SUBJECT);
const REFERRER = documentOf(
  {
    schemaVersion: 2,
    artifactType: 'application/x',
    layers: [],
    subject: { mediaType: OCI_MANIFEST, digest: SUBJECT, size: 5 },
    annotations: { a: 'b' },
  },
  OCI_MANIFEST,
);

/** A registry of one repository; `onPut` is called after a manifest is there. */
class Registry {
  readonly manifests = new Map<string, Buffer>();
  listsReferrers = false;
  onPut: (reference: string) => void = () => undefined;

  async put(): Promise<void> {
    const client = {
      host: 'registry.example',
      putManifest: async (_repository: string, reference: string, document: Document) => {
        this.manifests.set(reference, document.bytes);
        this.onPut(reference);
        return this.listsReferrers ? SUBJECT : undefined;
      },
      readManifest: async (_repository: string, reference: string) => this.manifests.get(reference),
    } as unknown as TargetClient;
    const use: ResultRegistry['use'] = async (work) => await work(client);
    await putReferrer({ use }, 'a', referrerOf(REFERRER), SIGNAL);
  }

  get list(): { readonly manifests: { readonly digest: string }[]; readonly [key: string]: unknown } {
    return JSON.parse(this.manifests.get(TAG)!.toString()) as Registry['list'];
  }

  setList(manifests: readonly object[], more: object = {}): void {
    const json = { schemaVersion: 2, mediaType: OCI_INDEX, manifests, ...more };
    this.manifests.set(TAG, Buffer.from(JSON.stringify(json)));
  }
}

const ENTRY = {
  mediaType: OCI_MANIFEST,
  digest: REFERRER.digest,
  size: REFERRER.bytes.length,
  artifactType: 'application/x',
  annotations: { a: 'b' },
};

t.test('a registry that says it lists a referrer gets nothing else', async (t) => {
  const registry = new Registry();
  registry.listsReferrers = true;
  await registry.put();
  t.same([...registry.manifests.keys()], [REFERRER.digest]);
});

t.test('elsewhere it is put into the list under the tag; what is there stays, to the field', async (t) => {
  const registry = new Registry();
  await registry.put();
  t.same(registry.list, { schemaVersion: 2, mediaType: OCI_INDEX, manifests: [ENTRY] });
  const signature = { mediaType: OCI_MANIFEST, digest: digestOf(Buffer.from('s')), size: 3, urls: ['x'] };
  registry.setList([signature], { annotations: { by: 'others' } });
  await registry.put();
  t.same(registry.list.manifests, [signature, ENTRY]);
  t.same(registry.list['annotations'], { by: 'others' });
  await registry.put();
  t.equal(registry.list.manifests.length, 2, 'once');
});

t.test('a list that others write meanwhile is written again, a few times', async (t) => {
  const registry = new Registry();
  let writers = 2;
  registry.onPut = (reference) => {
    if (reference === TAG && writers-- > 0) registry.setList([{ digest: `other ${writers}` }]);
  };
  await registry.put();
  const digests = registry.list.manifests.map(({ digest }) => digest);
  t.same(digests, ['other 0', 'other 1', REFERRER.digest], 'with what was seen before');
  writers = Number.POSITIVE_INFINITY;
  registry.setList([]);
  await t.rejects(registry.put(), { code: 'CONFLICT' });
});

t.test('what another drops is put back, though ours is there', async (t) => {
  const registry = new Registry();
  registry.setList([{ digest: 'first' }, { digest: REFERRER.digest }]);
  await registry.put();
  t.equal(registry.list.manifests.length, 2, 'nothing is written where all is there');
  registry.setList([{ digest: 'first' }]);
  let writers = 1;
  registry.onPut = (reference) => {
    if (reference === TAG && writers-- > 0)
      registry.setList([{ digest: REFERRER.digest }, { digest: 'late' }]);
  };
  await registry.put();
  t.match(registry.list.manifests, [{ digest: REFERRER.digest }, { digest: 'late' }, { digest: 'first' }]);
});

t.test('a tag that is no list is not written', async (t) => {
  for (const text of ['no JSON', '{"manifests":7}', `{"mediaType":"${OCI_MANIFEST}"}`, IMAGE.toString()]) {
    const registry = new Registry();
    registry.manifests.set(TAG, Buffer.from(text));
    await t.rejects(registry.put(), {
      code: 'METHOD_UNSUPPORTED',
      message: new RegExp(`registry.example/a:${TAG}`),
    });
    t.equal(registry.manifests.get(TAG)?.toString(), text);
  }
});
