import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { digestHex, digestOf } from '@sepia/base/digest';
import t, { type Test } from 'tap';
import { openArchive } from '../../src/image/archive.ts';
import { loadImage } from '../../src/image/load-image.ts';

/** A layout whose manifest says that its layer of five bytes has `layerBytes`. */
async function load(t: Test, layerBytes: number) {
  const root = t.testdir({ blobs: { sha256: {} } });
  const put = (bytes: Buffer) => {
    const digest = digestOf(bytes);
    writeFileSync(join(root, 'blobs', 'sha256', digestHex(digest)), bytes);
    return digest;
  };
  const config = Buffer.from('{}');
  const layer = put(Buffer.from('layer'));
  const manifest = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: 'application/vnd.oci.image.manifest.v1+json',
      config: {
        mediaType: 'application/vnd.oci.image.config.v1+json',
        digest: put(config),
        size: config.length,
      },
      layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: layer, size: layerBytes }],
    }),
  );
  const top = {
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    digest: put(manifest),
    size: manifest.length,
  };
  writeFileSync(join(root, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [top] }));
  const image = await loadImage(await openArchive(root), { tag: 'latest' });
  return { image, layer };
}

t.test('a layout that lies about the size of a layer is refused, and the layer named', async (t) => {
  const { image, layer } = await load(t, 5);
  t.equal(image.blobs.length, 2);
  for (const [name, lie] of [
    ['shorter', 4],
    ['longer', 6],
  ] as const)
    await t.test(name, async (t) => {
      await t.rejects(load(t, lie), {
        code: 'SIZE_MISMATCH',
        message: new RegExp(layer),
        detail: { expected: lie, found: 5 },
      });
    });
});
