import { digestOf } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import { makeImage, makeIndex } from '@sepia/test-support/upstream/fake-upstream';
import t from 'tap';
import {
  claimsToBeManifest,
  DOCKER_LIST,
  DOCKER_MANIFEST,
  isIndexType,
  isKnownType,
  isManifestType,
  MANIFEST_ACCEPT,
  MAX_MANIFEST_BYTES,
  OCI_ARTIFACT,
  OCI_INDEX,
  OCI_MANIFEST,
  ORAS_ARTIFACT,
  parseManifest,
  parseServedManifest,
} from '../src/manifest.ts';

const D = digestOf(Buffer.from('x'));
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const image = (fields: object): Buffer => json({ schemaVersion: 2, ...fields });

for (const type of ['oci', 'docker'] as const) {
  t.test(`what a ${type} image and index name`, async (t) => {
    const index = makeIndex({ layers: [10, 20], seed: 'm', type });
    const one = index.images[0]!;
    const parsed = parseManifest(one.manifest.bytes, one.manifest.mediaType);
    t.equal(parsed.mediaType, one.manifest.mediaType);
    t.same(
      parsed.descriptors.map(({ kind, digest, sizeBytes }) => [kind, digest, sizeBytes]),
      [
        ['config', one.config, one.blobs.get(one.config)!.length],
        ['layer', one.layers[0], 10],
        ['layer', one.layers[1], 20],
      ],
    );
    const both = parseManifest(index.manifest.bytes, undefined);
    t.ok(isIndexType(both.mediaType));
    t.same(
      both.descriptors.map(({ kind, digest }) => [kind, digest]),
      index.images.map(({ manifest }) => ['child', manifest.digest]),
    );
  });
}

t.test('what an index lists by the type of a blob is none of its manifests', async (t) => {
  const named = (mediaType: string): object => ({ mediaType, digest: D, size: 5 });
  const kindsOf = (types: readonly string[]): string[] =>
    parseManifest(image({ mediaType: OCI_INDEX, manifests: types.map(named) }), undefined).descriptors.map(
      ({ kind }) => kind,
    );
  const blobs = [
    'application/vnd.oci.image.layer.v1.tar+gzip',
    'application/vnd.oci.image.layer.v1.tar+zstd',
    'application/vnd.oci.image.config.v1+json',
    'application/vnd.docker.image.rootfs.diff.tar.gzip',
    'application/vnd.docker.container.image.v1+json',
    'application/vnd.buildkit.cacheconfig.v0',
  ];
  t.same(
    kindsOf(blobs),
    blobs.map(() => 'layer'),
  );
  const children = [
    OCI_INDEX,
    OCI_MANIFEST,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    'application/vnd.example+json',
    '',
  ];
  t.same(
    kindsOf(children),
    children.map(() => 'child'),
    'others may be manifests of a kind that is not known',
  );
});

t.test('the type comes from the header, else from inside, else from the shape', async (t) => {
  t.equal(parseManifest(image({ layers: [] }), DOCKER_MANIFEST).mediaType, DOCKER_MANIFEST);
  t.equal(parseManifest(image({ mediaType: OCI_MANIFEST }), 'application/json').mediaType, OCI_MANIFEST);
  t.equal(parseManifest(image({ layers: [] }), '').mediaType, OCI_MANIFEST);
  t.equal(parseManifest(image({ manifests: [] }), undefined).mediaType, OCI_INDEX);
  for (const said of [OCI_MANIFEST.toUpperCase(), 'Application/JSON; charset=utf-8'])
    t.equal(parseManifest(image({ mediaType: OCI_MANIFEST }), said).mediaType, OCI_MANIFEST, said);
  const odd = 'application/vnd.Example.Thing+json';
  t.equal(
    parseManifest(image({ mediaType: odd }), odd).mediaType,
    odd,
    'of a kind of its own as it is written',
  );
  t.throws(() => parseManifest(image({ mediaType: OCI_MANIFEST }), OCI_INDEX), {
    code: 'MANIFEST_SYNTAX',
    detail: { contentType: OCI_INDEX, mediaType: OCI_MANIFEST },
  });
});

t.test('foreign layers, subject, artifact blobs', async (t) => {
  const foreign = 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip';
  const parsed = parseManifest(
    image({
      layers: [
        { digest: D, size: 1, mediaType: foreign },
        { digest: D, size: 2 },
      ],
      blobs: [{ digest: D, size: 3 }],
      subject: { digest: D, size: 4 },
    }),
    undefined,
  );
  t.same(
    parsed.descriptors.map(({ foreign: isForeign, sizeBytes }) => [isForeign, sizeBytes]),
    [
      [true, 1],
      [false, 2],
      [false, 3],
    ],
  );
  t.equal(parsed.descriptors[1]!.mediaType, 'application/octet-stream');
  t.equal(parsed.subject, D);
  t.equal(parseManifest(image({ subject: null }), undefined).subject, undefined);
});

t.test('what is wrong is named', async (t) => {
  const cases: [Buffer, string | undefined, RegExp][] = [
    [Buffer.from('{'), undefined, /not valid JSON/],
    [Buffer.from([0xff, 0xfe]), undefined, /not valid JSON/],
    [json([]), undefined, /not a JSON object/],
    [json(null), undefined, /not a JSON object/],
    [json({ schemaVersion: 1 }), undefined, /schema 1/],
    [image({}), 'application/vnd.docker.distribution.manifest.v1+prettyjws', /schema 1/],
    [json({}), undefined, /schemaVersion must be 2/],
    [image({ layers: {} }), undefined, /layers is not a list/],
    [image({ layers: [{ digest: 'sha256:x', size: 1 }] }), undefined, /layers\[0\]\.digest/],
    [image({ layers: [{ digest: D, size: 1 }, null] }), undefined, /layers\[1\]\.digest/],
    [image({ config: 7 }), undefined, /^config\.digest is not valid/],
    [image({}), 'x'.repeat(20_000), /Content-Type is not a media type/],
    [image({}), `a/${'x'.repeat(20_000)}`, /Content-Type is not a media type/],
    [image({}), 'text', /Content-Type is not a media type/],
    [json({ schemaVersion: 2, mediaType: 'a/b\r\nX: y' }), undefined, /mediaType is not a media type/],
    ...[-1, 1.5, '1', null, 2 ** 53].map((size): [Buffer, undefined, RegExp] => [
      image({ manifests: [{ digest: D, size }] }),
      undefined,
      /manifests\[0\]\.size/,
    ]),
    [image({ subject: 7 }), undefined, /^subject\.digest is not valid/],
  ];
  for (const [bytes, type, message] of cases)
    t.throws(() => parseManifest(bytes, type), { code: 'MANIFEST_SYNTAX', message }, String(message));
  t.throws(() => parseManifest(Buffer.alloc(MAX_MANIFEST_BYTES + 1, 0x20), undefined), {
    code: 'MANIFEST_TOO_LARGE',
  });
});

t.test('a manifest has its limits, and what is at them is read', async (t) => {
  const many = (count: number): object[] => Array.from({ length: count }, () => ({ digest: D, size: 1 }));
  const typed = (chars: number): object => ({ digest: D, size: 1, mediaType: `a/${'x'.repeat(chars - 2)}` });
  const refused: [Buffer, RegExp][] = [
    [image({ layers: many(20_001) }), /^layers names more than 20000 entries$/],
    [image({ layers: many(10_000), blobs: many(10_001) }), /^manifest names more than 20000 entries$/],
    [image({ layers: [typed(5), typed(256)] }), /^layers\[1\]\.mediaType is too long$/],
    [image({ artifactType: 'x'.repeat(256) }), /^artifactType is too long$/],
    [nested(101), /^manifest is nested more than 100 deep$/],
  ];
  for (const [bytes, message] of refused)
    t.throws(() => parseManifest(bytes, undefined), { code: 'MANIFEST_SYNTAX', message }, String(message));
  t.notOk(claimsToBeManifest(nested(101)), 'nor is it looked at for what it claims to be');
  const full = image({ layers: many(10_000), blobs: many(10_000) });
  t.equal(parseManifest(full, undefined).descriptors.length, 20_000);
  t.equal(parseManifest(image({ artifactType: 'x'.repeat(255) }), undefined).artifactType?.length, 255);
  t.equal(parseManifest(nested(100), undefined).mediaType, OCI_MANIFEST);
  t.same(parseManifest(image({ x: '['.repeat(200), y: '\\"[' }), undefined).descriptors, [], 'in strings');
});

/** An image so deep, with its own braces. */
function nested(depth: number): Buffer {
  return Buffer.from(`{"schemaVersion":2,"x":${'['.repeat(depth - 1)}${']'.repeat(depth - 1)}}`);
}

t.test('of annotations only what is text is handed on', async (t) => {
  const read = (annotations: unknown) => parseManifest(image({ annotations }), undefined).annotations;
  t.same(read({ a: '1', b: 2, c: null, d: '' }), { a: '1', d: '' });
  for (const none of [undefined, null, 'a', ['a'], {}, { b: 2 }])
    t.equal(read(none), undefined, JSON.stringify(none));
});

t.test('a type is what is said, and known to be guessed where nothing says it', async (t) => {
  const odd = 'application/vnd.example.thing.v1+json';
  const bare = json({ schemaVersion: 2 });
  t.match(parseManifest(bare, odd), { mediaType: odd, isGuessed: false });
  t.match(parseManifest(bare, `${odd}; charset=utf-8`), { mediaType: odd, isGuessed: false });
  t.match(parseManifest(bare, 'application/json'), { mediaType: OCI_MANIFEST, isGuessed: true });
  t.match(parseManifest(json({ schemaVersion: 2, mediaType: odd }), undefined), {
    mediaType: odd,
    isGuessed: false,
  });
  t.same(parseManifest(image({ config: null, layers: null }), undefined).descriptors, []);
});

t.test('the type of a layer that no header could carry is none', async (t) => {
  const layers = [{ digest: D, size: 1, mediaType: 'a/b\r\nSet-Cookie: x' }];
  t.equal(parseManifest(image({ layers }), undefined).descriptors[0]!.mediaType, 'application/octet-stream');
});

t.test('of one that is served under another type than it says what it says counts', async (t) => {
  const index = json({ schemaVersion: 2, mediaType: OCI_INDEX, manifests: [{ digest: D, size: 3 }] });
  t.throws(() => parseManifest(index, DOCKER_MANIFEST), { code: 'MANIFEST_SYNTAX' });
  t.match(parseServedManifest(index, DOCKER_MANIFEST), {
    mediaType: OCI_INDEX,
    descriptors: [{ kind: 'child' }],
  });
  t.equal(parseServedManifest(image({ layers: [] }), DOCKER_MANIFEST).mediaType, DOCKER_MANIFEST);
  t.equal(parseServedManifest(image({ layers: [] }), undefined).mediaType, OCI_MANIFEST);
});

t.test('manifests of other kinds are known as manifests, other JSON is not', async (t) => {
  for (const value of [
    { schemaVersion: 1, fsLayers: [] },
    { mediaType: 'application/vnd.oci.artifact.manifest.v1+json', blobs: [] },
    { schemaVersion: 2, layers: [{ digest: D, size: 2 ** 53 }] },
  ])
    t.ok(claimsToBeManifest(json(value)), JSON.stringify(value));
  for (const value of [{}, [], null, { errors: [{ code: 'X' }] }, { schemaVersion: '2' }])
    t.notOk(claimsToBeManifest(json(value)), JSON.stringify(value));
  t.notOk(claimsToBeManifest(Buffer.from('<html>')));
});

t.test('types', async (t) => {
  for (const type of [OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST]) {
    t.ok(isManifestType(type));
    t.ok(MANIFEST_ACCEPT.includes(type));
    t.ok(isKnownType(type));
  }
  for (const type of [OCI_ARTIFACT, ORAS_ARTIFACT]) {
    t.notOk(isManifestType(type), 'clients do not ask for it as an image');
    t.ok(isKnownType(type));
  }
  t.notOk(isKnownType('application/vnd.example.thing'));
  t.notOk(isManifestType('text/html'));
});

t.test('any bytes are a manifest or a coded error', async (t) => {
  const entry = fc.oneof(
    fc.jsonValue(),
    fc.record({
      digest: fc.oneof(fc.constant(D), fc.string()),
      size: fc.oneof(fc.nat(), fc.double()),
      mediaType: fc.jsonValue(),
    }),
  );
  const shaped = fc.record(
    {
      schemaVersion: fc.constantFrom(1, 2, '2'),
      mediaType: fc.oneof(fc.constant(OCI_MANIFEST), fc.jsonValue()),
      config: entry,
      layers: fc.oneof(entry, fc.array(entry)),
      manifests: fc.array(entry),
      subject: entry,
    },
    { requiredKeys: [] },
  );
  const flipped = fc.tuple(fc.nat(), fc.nat(255)).map(([at, byte]) => {
    const bytes = Buffer.from(makeImage({ layers: [10], seed: 'f' }).manifest.bytes);
    bytes[at % bytes.length] = byte;
    return bytes;
  });
  fc.assert(
    fc.property(fc.oneof(fc.uint8Array(), fc.jsonValue().map(json), shaped.map(json), flipped), (bytes) => {
      try {
        return parseManifest(bytes, undefined).descriptors.every(
          ({ sizeBytes }) => Number.isSafeInteger(sizeBytes) && sizeBytes >= 0,
        );
      } catch (error) {
        return error instanceof CodedError && error.code === 'MANIFEST_SYNTAX';
      }
    }),
    { numRuns: 3000, interruptAfterTimeLimit: 10_000, markInterruptAsFailure: false },
  );
  t.pass('held');
});
