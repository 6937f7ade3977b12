import { digestOf } from '@sepia/base/digest';
import t from 'tap';
import { convertImage } from '../../src/convert/convert-image.ts';
import { layerDefaults } from '../../src/convert/layer-job.ts';
import { MemoryImages, memoryConversion } from '../support/memory-images.ts';
import { ODD_IMAGES } from '../support/odd-images.ts';

const MANIFEST = 'application/vnd.oci.image.manifest.v1+json';

interface Annotated {
  readonly annotations: Readonly<Record<string, string>>;
}

t.test('a result does not name the SOCI index of its source, whose layers it has not', async (t) => {
  const images = new MemoryImages();
  const soci = { 'com.amazon.soci.index-digest': digestOf(Buffer.from('ztocs')), kept: 'yes' };
  const [, tars] = ODD_IMAGES[0]!;
  images.addImage(tars, { tag: 'plain' });
  const json = { ...images.json<Record<string, unknown>>('plain'), annotations: soci };
  const bound = images.addManifest(json, MANIFEST);
  images.addIndex([{ ...bound, platform: { os: 'linux', architecture: 'amd64' }, annotations: soci }], 'app');
  await convertImage(memoryConversion(images), 'app', {
    ...layerDefaults('estargz'),
    tag: 'result',
    parallel: 1,
  });
  const { manifests } = images.json<{ manifests: (Annotated & { digest: string })[] }>('result');
  t.same(manifests[0]!.annotations, { kept: 'yes' });
  const { annotations } = images.json<Annotated>(manifests[0]!.digest);
  t.same(Object.keys(annotations), ['kept', 'io.sepia.conversion.source', 'io.sepia.conversion.format']);
});
