import { type Digest, digestOf } from '@sepia/base/digest';
import { parseRepositoryName } from '@sepia/base/names/repository';
import t from 'tap';
import { PulledImages } from '../../../src/lazy/core/pulled-images.ts';

const id = (text: string): Digest => digestOf(Buffer.from(text));
const TARGET = { upstream: 'local', repository: parseRepositoryName('team/app') };
const CONFIG = { mediaType: 'application/vnd.oci.image.config.v1+json', digest: id('c'), size: 2 };
const LAYER = { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: id('l'), size: 7 };

function noted(manifest: object | string, config: Digest = id('c')) {
  const images = new PulledImages();
  const text = typeof manifest === 'string' ? manifest : JSON.stringify(manifest);
  images.note(TARGET, { digest: id('m'), bytes: Buffer.from(text, 'latin1') });
  return images.of(TARGET, config);
}

t.test('an image is known by its config, in its repository', async (t) => {
  const image = noted({ config: CONFIG, layers: [LAYER] });
  t.same(image, {
    ...TARGET,
    manifest: id('m'),
    config: id('c'),
    layers: [{ digest: id('l'), sizeBytes: 7 }],
    isNydus: false,
  });
  t.equal(noted({ config: CONFIG, layers: [LAYER] }, id('other')), undefined);
});

t.test('a Nydus image is known by the mark of its last layer', async (t) => {
  const bootstrap = { ...LAYER, annotations: { 'containerd.io/snapshot/nydus-bootstrap': 'true' } };
  const noteOf = (...layers: object[]) => noted({ config: CONFIG, layers })?.isNydus;
  t.equal(noteOf(LAYER, bootstrap), true);
  t.equal(noteOf(bootstrap, LAYER), false, 'it is not the last');
  t.equal(noteOf({ ...LAYER, mediaType: 'application/vnd.oci.image.layer.nydus.blob.v1' }), false);
});

t.test('what containerd would unpack does not pass unseen', async (t) => {
  const layers = [LAYER];
  t.ok(noted({ config: CONFIG, layers, artifactType: 'application/x' }), 'with an artifact type');
  t.ok(noted({ config: CONFIG, layers, annotations: { a: '\xff' } }), 'not UTF-8');
  const capitals = `{"config":${JSON.stringify({ ...CONFIG, digest: id('x') })},"layers":[],"Config":${JSON.stringify(CONFIG)}}`;
  t.match(noted(capitals), { doubt: /in two ways/ });
  t.match(noted(capitals, id('x')), { doubt: /in two ways/ });
  const speaking = { ...LAYER, annotations: { 'containerd.io/snapshot/cri.layer-digest': id('other') } };
  t.match(noted({ config: CONFIG, layers: [speaking] }), { doubt: /only a client sets/ });
  t.match(noted({ config: CONFIG, layers: [{ ...LAYER, digest: 'x' }] }), { doubt: /without a digest/ });
  t.match(noted({ config: CONFIG, layers: Array.from({ length: 501 }, () => LAYER) }), {
    doubt: /500 layers/,
  });
});

t.test('what nobody unpacks is left alone', async (t) => {
  const helm = { ...CONFIG, mediaType: 'application/vnd.cncf.helm.config.v1+json' };
  for (const manifest of [
    { config: helm, layers: [LAYER] },
    { config: CONFIG, layers: [] },
    { config: CONFIG },
    { manifests: [] },
    'null',
    '{',
  ])
    t.equal(noted(manifest), undefined);
});

t.test('of a manifest that names digests without end a bounded number is doubted', async (t) => {
  const many = Array.from({ length: 10_001 }, (_, at) => id(`${at}`));
  const text = `{"config":{},"Config":{},"layers":${JSON.stringify(many)}}`;
  const images = new PulledImages();
  images.note(TARGET, { digest: id('m'), bytes: Buffer.from(text) });
  t.match(images.of(TARGET, many[9_999]!), { doubt: /in two ways/ });
  t.equal(images.of(TARGET, many[10_000]!), undefined, 'not known, and offered to nobody');
});
