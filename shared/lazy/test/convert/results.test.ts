import t from 'tap';
import { ociType, readDocument } from '../../src/convert/documents.ts';
import { isConvertible, whyResult } from '../../src/convert/results.ts';
import { MemoryImages } from '../support/memory-images.ts';
import { writeTar } from '../support/tar-writer.ts';

const images = new MemoryImages();
const tar = (name: string): Buffer => writeTar([{ name, payload: Buffer.from(name.repeat(50)) }]);
const image = images.addImage([tar('a'), tar('b'), Buffer.alloc(1024)]);
const plain = images.json<{ layers: object[] }>(image.digest);

function read(json: object): ReturnType<typeof readDocument> {
  const { mediaType } = json as { mediaType: string };
  return readDocument(Buffer.from(JSON.stringify(json)), mediaType);
}

/** The image with these annotations on its layers, in turn. */
function marked(...marks: Record<string, string>[]): ReturnType<typeof readDocument> {
  const layers = plain.layers.map((layer, at) => ({ ...layer, annotations: marks[at] ?? {} }));
  return read({ ...plain, layers });
}

t.test('an image is a result where it says so, or where every layer that holds something does', async (t) => {
  t.equal(whyResult(read(plain)), undefined);
  t.match(
    whyResult(read({ ...plain, annotations: { 'io.sepia.conversion.source': 'x' } })),
    /of a conversion/,
  );
  for (const mark of ['nydus-source-digest', 'nydus-source-reference'])
    t.match(
      whyResult(read({ ...plain, annotations: { [`containerd.io/snapshot/${mark}`]: 'x' } })),
      /another conversion service/,
    );
  const toc = { 'containerd.io/snapshot/stargz/toc.digest': 'x' };
  const chunked = { 'io.github.containers.zstd-chunked.manifest-checksum': 'x' };
  t.match(whyResult(marked(toc, chunked)), /lazy format already/, 'an empty layer does not count');
  t.equal(whyResult(marked(toc)), undefined, 'built on a converted image: there is something to convert');
  t.equal(whyResult(marked({ other: 'x' }, { other: 'x' })), undefined);
});

t.test('a type that is no media type at all stays as it is', async (t) => {
  for (const type of ['constructor', '__proto__', 'toString', ''])
    t.equal(ociType(type), type, 'it is kept in the manifest of the result');
});

t.test('an index is a result where it or one of its children says so', async (t) => {
  const index = (children: object[], more: object = {}): ReturnType<typeof readDocument> =>
    read({ ...images.json<object>(images.addIndex(children).digest), ...more });
  const platform = { os: 'linux', architecture: 'amd64' };
  t.equal(whyResult(index([{ ...image, platform }])), undefined);
  for (const child of [
    { ...image, annotations: { 'io.sepia.conversion.source': 'x' } },
    { ...image, platform: { ...platform, 'os.features': ['sepia.estargz'] } },
    { ...image, platform: { ...platform, 'os.features': ['nydus.remoteimage.v1'] } },
  ])
    t.match(whyResult(index([image, child])), /holds a result/);
  t.equal(whyResult(index([{ ...image, platform: { 'os.features': [7, 'win32k'] } }])), undefined);
  t.match(
    whyResult(index([image], { annotations: { 'io.sepia.conversion.source': 'x' } })),
    /of a conversion/,
  );
});

t.test('what has no layer that is a tar is no image to convert', async (t) => {
  t.ok(isConvertible(read(plain)));
  const signature = plain.layers.map((layer) => ({
    ...layer,
    mediaType: 'application/vnd.dev.cosign.simplesigning.v1+json',
  }));
  t.notOk(isConvertible(read({ ...plain, layers: signature })));
  t.notOk(isConvertible(read({ ...plain, artifactType: 'application/x' })));
});
