import { type Digest, digestOf } from '@sepia/base/digest';
import { DOCKER_MANIFEST, OCI_ARTIFACT, OCI_INDEX, OCI_MANIFEST, ORAS_ARTIFACT } from '@sepia/oci/manifest';
import t from 'tap';
import { namesOf } from '../../../src/gc/core/names.ts';

const [A, B, C] = ['a', 'b', 'c'].map((text) => digestOf(Buffer.from(text))) as [Digest, Digest, Digest];
const LONG = digestOf(Buffer.from('long'), 'sha512');
const OWN = 'application/vnd.example.thing';

function entry(digest: Digest): object {
  return { mediaType: 'application/octet-stream', digest, size: 1 };
}

function named(body: object, mediaType: string): { blobs: Digest[]; manifests: Digest[] } {
  const { blobs, manifests } = namesOf(Buffer.from(JSON.stringify(body)), mediaType);
  return { blobs: [...blobs], manifests: [...manifests] };
}

t.test('known kinds name what their fields say; children may name more', async (t) => {
  const image = { schemaVersion: 2, config: entry(A), layers: [entry(B)], subject: entry(C) };
  t.same(named(image, OCI_MANIFEST), { blobs: [A, B], manifests: [] });
  const other = { ...image, mediaType: OCI_MANIFEST };
  t.same(named(other, DOCKER_MANIFEST), { blobs: [A, B], manifests: [] }, 'linked under another type');
  t.same(named({ schemaVersion: 2, manifests: [entry(A)] }, OCI_INDEX), { blobs: [], manifests: [A] });
  for (const type of [OCI_ARTIFACT, ORAS_ARTIFACT])
    t.same(named({ mediaType: type, blobs: [entry(A)], subject: entry(C) }, type), {
      blobs: [A],
      manifests: [],
    });
});

t.test('of other kinds, and of what cannot be read as one, every digest counts', async (t) => {
  t.same(named({ parts: [A, { of: `oci://x@${B}` }], long: LONG }, OWN), {
    blobs: [],
    manifests: [A, B, LONG],
  });
  const broken = { schemaVersion: 2, mediaType: OCI_MANIFEST, layers: [{ digest: A }] };
  t.same(named(broken, OCI_MANIFEST), { blobs: [], manifests: [A] });
  t.same(named({ text: 'sha256:short' }, OWN), { blobs: [], manifests: [] });
});
