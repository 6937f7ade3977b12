import { digestOf } from '@sepia/base/digest';
import { OCI_INDEX, OCI_MANIFEST, parseManifest } from '@sepia/oci/manifest';
import t from 'tap';
import { EMPTY_CONFIG, INDEX_ARTIFACT, indexArtifact, indexesIn } from '../../src/artifact/index-artifact.ts';
import { documentOf, readDocument } from '../../src/convert/documents.ts';
import { isConvertible, whyResult } from '../../src/convert/results.ts';

const [A, B, C, D] = ['a', 'b', 'c', 'd'].map((text) => digestOf(Buffer.from(text))) as [
  ReturnType<typeof digestOf>,
  ReturnType<typeof digestOf>,
  ReturnType<typeof digestOf>,
  ReturnType<typeof digestOf>,
];
const IMAGE = documentOf({ schemaVersion: 2, layers: [] }, OCI_MANIFEST);

t.test('an artifact names its image and which index is of which layer', async (t) => {
  const first = { layer: A, diffId: B, index: C, indexBytes: 7 };
  const second = { layer: B, diffId: A, index: D, indexBytes: 8 };
  const made = indexArtifact(IMAGE, [first, second, first]);
  t.equal(
    made.digest,
    indexArtifact(IMAGE, [first, second]).digest,
    'a layer that is there twice counts once',
  );
  t.match(parseManifest(made.bytes, made.mediaType), {
    mediaType: OCI_MANIFEST,
    subject: IMAGE.digest,
    artifactType: INDEX_ARTIFACT,
    annotations: { 'io.sepia.conversion.source': IMAGE.digest, 'io.sepia.conversion.format': 'index' },
    descriptors: [{ digest: digestOf(EMPTY_CONFIG) }, { digest: C }, { digest: D }],
  });
  t.match(
    [...indexesIn(made)],
    [
      [A, { digest: C, sizeBytes: 7 }],
      [B, { digest: D, sizeBytes: 8 }],
    ],
  );
  const read = readDocument(made.bytes, made.mediaType);
  t.notOk(isConvertible(read), 'it is no image');
  t.equal(whyResult(read), undefined);
});

t.test('what is no such artifact has no indexes', async (t) => {
  t.equal(indexesIn(documentOf({ schemaVersion: 2, manifests: [] }, OCI_INDEX)).size, 0);
  const size = 1;
  const layers = [
    { mediaType: 'text/plain', digest: A, size, annotations: { 'io.sepia.index.layer': B } },
    { mediaType: 'application/vnd.sepia.layer-index.v1', digest: A, size },
    {
      mediaType: 'application/vnd.sepia.layer-index.v1',
      digest: A,
      size,
      annotations: { 'io.sepia.index.layer': 'no digest' },
    },
  ];
  t.equal(indexesIn(documentOf({ schemaVersion: 2, layers }, OCI_MANIFEST)).size, 0);
});
