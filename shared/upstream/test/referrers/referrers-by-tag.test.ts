import { type Digest, digestOf } from '@sepia/base/digest';
import { OCI_INDEX, OCI_MANIFEST } from '@sepia/oci/manifest';
import t from 'tap';
import { referrersTag } from '../../src/referrers/referrer-list.ts';
import { listReferrer, unlistReferrer } from '../../src/referrers/referrers-by-tag.ts';

const SIGNAL = new AbortController().signal;
const SUBJECT = digestOf(Buffer.from('an image'));
const TAG = referrersTag(SUBJECT);
const NAME = { repository: 'a', subject: SUBJECT };

const entryOf = (text: string) => ({
  ...{ mediaType: OCI_MANIFEST, digest: digestOf(Buffer.from(text)), size: text.length },
  artifactType: 'application/x',
});

/** A registry of one repository; `onPut` is called after a list is there. */
class Registry {
  readonly host = 'registry.example';
  bytes: Buffer | undefined;
  puts = 0;
  onPut: () => void = () => undefined;

  async readManifest(_repository: string, reference: string): Promise<Buffer | undefined> {
    return reference === TAG ? this.bytes : undefined;
  }

  async putManifest(_repository: string, _reference: string, list: { readonly bytes: Uint8Array }) {
    this.bytes = Buffer.from(list.bytes);
    this.puts += 1;
    this.onPut();
    return undefined;
  }

  set list(entries: readonly object[]) {
    this.bytes = Buffer.from(
      `{"schemaVersion":2,"mediaType":"${OCI_INDEX}","annotations":{"n":"1"},"big":12345678901234567890,"manifests":${JSON.stringify(entries)}}`,
    );
  }

  get digests(): readonly Digest[] {
    return (JSON.parse(this.bytes!.toString()) as { manifests: { digest: Digest }[] }).manifests.map(
      ({ digest }) => digest,
    );
  }
}

t.test('an entry is added once, and taken out; others stay, to the field', async (t) => {
  const registry = new Registry();
  const [first, second] = [entryOf('1'), entryOf('22')];
  await unlistReferrer(registry, NAME, first.digest, SIGNAL);
  t.equal(registry.puts, 0, 'where there is no list none is made');
  await listReferrer(registry, NAME, first, SIGNAL);
  await listReferrer(registry, NAME, first, SIGNAL);
  t.equal(registry.puts, 1);
  t.same(JSON.parse(registry.bytes!.toString()), {
    schemaVersion: 2,
    mediaType: OCI_INDEX,
    manifests: [first],
  });
  registry.list = [first, second];
  await unlistReferrer(registry, NAME, first.digest, SIGNAL);
  t.same(registry.digests, [second.digest]);
  t.match(registry.bytes!.toString(), '12345678901234567890');
  await unlistReferrer(registry, NAME, first.digest, SIGNAL);
  t.equal(registry.puts, 2);
  await unlistReferrer(registry, NAME, second.digest, SIGNAL);
  t.same(registry.digests, [], 'the list stays, empty');
});

t.test('another who wrote an older list back over it does not keep the entry out, or in', async (t) => {
  const registry = new Registry();
  const [first, second] = [entryOf('1'), entryOf('22')];
  registry.list = [second];
  let others = 2;
  registry.onPut = () => {
    if (others-- > 0) registry.list = [second];
  };
  await listReferrer(registry, NAME, first, SIGNAL);
  t.same(registry.digests, [second.digest, first.digest]);
  others = 2;
  registry.onPut = () => {
    if (others-- > 0) registry.list = [second, first];
  };
  await unlistReferrer(registry, NAME, first.digest, SIGNAL);
  t.same(registry.digests, [second.digest]);
  registry.onPut = () => {
    registry.list = [second];
  };
  await t.rejects(listReferrer(registry, NAME, first, SIGNAL), { code: 'CONFLICT' });
});

t.test('what is no list is left alone', async (t) => {
  for (const text of ['an image', 'no JSON', '{"manifests":7}', `{"mediaType":"${OCI_MANIFEST}"}`]) {
    const registry = new Registry();
    registry.bytes = Buffer.from(text);
    await t.rejects(listReferrer(registry, NAME, entryOf('1'), SIGNAL), { code: 'METHOD_UNSUPPORTED' });
    await t.rejects(unlistReferrer(registry, NAME, SUBJECT, SIGNAL), { code: 'METHOD_UNSUPPORTED' });
    t.equal(registry.puts, 0);
  }
});
