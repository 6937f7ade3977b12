import { fc } from '@sepia/test-support/property';
import t from 'tap';
import {
  DOCKER_LIST,
  DOCKER_MANIFEST,
  OCI_ARTIFACT,
  OCI_INDEX,
  OCI_MANIFEST,
  ORAS_ARTIFACT,
  parseManifest,
} from '../src/manifest.ts';
import { keyTwice, parsePushedManifest } from '../src/pushed-manifest.ts';

const D = `sha256:${'a'.repeat(64)}`;
const ARTIFACT = 'application/vnd.oci.artifact.manifest.v1+json';
const one = { mediaType: 'a/b', digest: D, size: 3 };
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value));
const refused = (bytes: Buffer, type: string | undefined, message: RegExp): void =>
  void t.throws(
    () => parsePushedManifest(bytes, type),
    { code: 'MANIFEST_SYNTAX', message },
    String(message),
  );

t.test('one body says one thing', async (t) => {
  for (const [type, other] of [
    [OCI_MANIFEST, { manifests: [] }],
    [DOCKER_MANIFEST, { manifests: [one] }],
    [OCI_MANIFEST, { fsLayers: [] }],
    [OCI_INDEX, { layers: [] }],
    [DOCKER_LIST, { config: one }],
    [OCI_INDEX, { fsLayers: [] }],
  ] as const) {
    const body = json({ schemaVersion: 2, mediaType: type, ...other });
    refused(body, type, /has no/);
    refused(body, undefined, /has no/);
    t.ok(parseManifest(body, type), 'what is there already is read');
  }
  refused(json({ schemaVersion: 2, layers: [one], manifests: [] }), undefined, /has no/);
  refused(json({ schemaVersion: 2, layers: [one] }), OCI_INDEX, /has no layers/);
  t.ok(parsePushedManifest(json({ schemaVersion: 2, layers: [one], manifests: null }), OCI_MANIFEST));
});

t.test('a mediaType that is no text is refused', async () => {
  for (const mediaType of [1, true, {}, ['a']]) {
    refused(json({ schemaVersion: 2, mediaType, config: one, layers: [one] }), OCI_MANIFEST, /is not text/);
    refused(json({ schemaVersion: 2, mediaType, config: one, layers: [one] }), undefined, /is not text/);
  }
});

t.test('the config of an image is not null; fields that lists leave out may be', async (t) => {
  for (const type of [OCI_MANIFEST, DOCKER_MANIFEST])
    refused(json({ schemaVersion: 2, mediaType: type, config: null, layers: [one] }), type, /config is null/);
  refused(json({ schemaVersion: 2, config: null }), undefined, /config is null/);
  t.ok(parsePushedManifest(json({ schemaVersion: 2, config: null, manifests: [one] }), OCI_INDEX));
  t.ok(parsePushedManifest(json({ schemaVersion: 2, config: one, layers: null }), OCI_MANIFEST));
});

t.test('a key twice and a byte order mark have two readings', async (t) => {
  for (const text of [
    `{"schemaVersion":2,"layers":[],"layers":[]}`,
    `{"schemaVersion":2,"layers" : [], "Layers"\n:[]}`,
    `{"schemaVersion":2,"layers":[],"l\\u0061yers":[]}`,
    `{"schemaVersion":2,"layers":[{"digest":"${D}","size":1,"size":2}]}`,
  ])
    refused(Buffer.from(text), OCI_MANIFEST, /twice/);
  const marked = Buffer.concat([Buffer.from([0xef, 0xbb, 0xbf]), json({ schemaVersion: 2 })]);
  refused(marked, OCI_MANIFEST, /byte order mark/);
  const annotations = { a: 'x', A: '"a":"a"', 'b"': '\\"a":' };
  t.ok(parsePushedManifest(json({ schemaVersion: 2, layers: [one, one], annotations }), OCI_MANIFEST));
});

t.test('an object of very many keys is refused before all of them are looked at', async (t) => {
  const keys = (count: number) => Array.from({ length: count }, (_, index) => `"k${index}":1`).join(',');
  t.equal(keyTwice(Buffer.from(`{"a":{${keys(10_000)}},"b":{${keys(10_000)}}}`)), undefined);
  const code = 'MANIFEST_SYNTAX';
  t.throws(() => keyTwice(Buffer.from(`{"a":{${keys(10_001)}}}`)), { code, message: /more than 10000 keys/ });
});

t.test('keys are compared as readers decode them', async (t) => {
  for (const text of ['{"a":{"é":1,"\\u00e9":2}}', '{"x":{"k":1,"\\u006b":2}}', '{"x":{"~":1,"~":2}}'])
    t.ok(keyTwice(Buffer.from(text)), text);
  t.equal(keyTwice(Buffer.from('{"x":{"é":1,"\u00c3\u00a9":2,"]":3,"\\\\":4}}')), undefined);
});

t.test('no text that JSON prints has a key twice; one that is put in is found', async (t) => {
  fc.assert(
    fc.property(
      fc.dictionary(fc.string(), fc.json({ noUnicodeString: false })),
      fc.string(),
      (fields, key) => {
        const inner = Object.entries(fields).map(([name, value]) => `${JSON.stringify(name)}: ${value}`);
        const text = `{"around": {${inner.join(' , ')}}}`;
        t.equal(keyTwice(Buffer.from(text)), undefined, text);
        const more = [...inner, ...[1, 2].map((n) => `${JSON.stringify(key)}:${n}`)];
        t.equal(typeof keyTwice(Buffer.from(`{"around": {${more.join(',')}}}`)), 'string');
      },
    ),
  );
});

t.test('kinds that are not known are kept, whatever they mean by their fields', async (t) => {
  const thing = 'application/vnd.example.thing+json';
  for (const value of [
    { hello: 1 },
    { schemaVersion: 3 },
    { schemaVersion: 1 },
    { layers: 7, config: 'x', subject: 1 },
  ])
    t.match(
      parsePushedManifest(json(value), thing),
      { mediaType: thing, descriptors: [] },
      JSON.stringify(value),
    );
  t.equal(parsePushedManifest(json({ schemaVersion: 2, layers: [one] }), thing).descriptors.length, 1);
  refused(json({ hello: 1 }), undefined, /schemaVersion/);
  refused(json({ hello: 1 }), OCI_MANIFEST, /schemaVersion/);
  refused(json([]), thing, /not a JSON object/);
  refused(json({ schemaVersion: 1 }), 'application/vnd.docker.distribution.manifest.v1+json', /schema 1/);
});

t.test('an artifact manifest from before OCI 1.1 names its blobs and its subject', async (t) => {
  const body = json({ mediaType: ARTIFACT, artifactType: 'x/y', blobs: [one], subject: one });
  for (const type of [ARTIFACT, undefined])
    t.match(parsePushedManifest(body, type), {
      mediaType: ARTIFACT,
      subject: D,
      descriptors: [{ digest: D, kind: 'layer' }],
    });
  refused(json({ mediaType: ARTIFACT, blobs: [{ digest: D }] }), ARTIFACT, /size/);
  const before = json({ mediaType: ORAS_ARTIFACT, artifactType: 'x/y', blobs: [one], subject: one });
  t.match(parsePushedManifest(before, ORAS_ARTIFACT), {
    subject: D,
    descriptors: [{ digest: D, kind: 'layer' }],
  });
});

t.test('a field whose letters are of another case is none that all readers see', async (t) => {
  const config = { mediaType: 'a/b', digest: D, size: 3 };
  const image = { schemaVersion: 2, mediaType: OCI_MANIFEST, config, layers: [one] };
  for (const [field, odd] of [
    ['layers', { ...image, layers: undefined, Layers: [one] }],
    ['config', { ...image, config: undefined, CONFIG: config }],
    ['long s', { ...image, layers: undefined, layerſ: [one] }],
    ['an entry', { ...image, layers: [{ ...one, Digest: `sha256:${'b'.repeat(64)}` }] }],
    ['the config', { ...image, config: { ...config, SIZE: 4 } }],
    ['the subject', { ...image, subject: { ...one, Size: 4 } }],
  ] as const)
    t.throws(
      () => parsePushedManifest(json(odd), OCI_MANIFEST),
      { code: 'MANIFEST_SYNTAX', message: /of another case/ },
      field,
    );
  const child = { ...one, platform: { os: 'linux', Architecture: 'arm' } };
  refused(json({ schemaVersion: 2, manifests: [child] }), OCI_INDEX, /"Architecture"/);
  const free = {
    ...image,
    annotations: { Digest: 'x', digest: 'y' },
    layers: [{ ...one, annotations: { Size: '3' } }],
  };
  t.ok(parsePushedManifest(json(free), OCI_MANIFEST), 'names of annotations are their own');
  const artifact = { mediaType: OCI_ARTIFACT, artifactType: 'a/b', blobs: [one] };
  t.ok(parsePushedManifest(json(artifact), OCI_ARTIFACT));
  refused(json({ ...artifact, blobs: undefined, Blobs: [one] }), OCI_ARTIFACT, /"Blobs"/);
  refused(json({ ...artifact, blobs: [{ ...one, Digest: D }] }), OCI_ARTIFACT, /"Digest"/);
  const other = { schemaVersion: 2, config, Layers: [] };
  t.ok(parsePushedManifest(json(other), 'application/x.y'), 'another kind may mean anything by it');
});
