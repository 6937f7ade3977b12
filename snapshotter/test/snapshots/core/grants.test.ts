import { type Digest, digestOf } from '@sepia/base/digest';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { chainId, chainOf, Grants, LABEL } from '../../../src/snapshots/core/grants.ts';

const id = (text: string): Digest => digestOf(Buffer.from(text));
const layers = [
  { digest: id('base'), diffId: id('d base') },
  { digest: id('app'), diffId: id('d app') },
];

function labels(ref: string, layer: string, manifest: string): Record<string, string> {
  return { [LABEL.ref]: ref, [LABEL.layer]: id(layer), [LABEL.manifest]: id(manifest) };
}

t.test(
  'a layer is granted to the pull of its own image, at its place in the chain, for a while',
  async (t) => {
    const grants = new Grants();
    grants.add(id('m'), layers, 0);
    const base = id('d base');
    const top = chainId(base, id('d app'));
    t.equal(grants.diffIdFor(labels(base, 'base', 'm'), undefined, 1), base);
    t.equal(grants.diffIdFor(labels(top, 'app', 'm'), base, 1), id('d app'));
    t.equal(grants.diffIdFor(labels(top, 'app', 'm'), undefined, 1), undefined, 'on another parent');
    t.equal(
      grants.diffIdFor(labels(base, 'app', 'm'), undefined, 1),
      undefined,
      'under another layer’s name',
    );
    t.equal(grants.diffIdFor(labels(base, 'base', 'other'), undefined, 1), undefined, 'to another image');
    t.equal(grants.diffIdFor({ [LABEL.ref]: base }, undefined, 1), undefined, 'to nobody known');
    t.equal(grants.diffIdFor(labels(base, 'base', 'm'), undefined, 3_600_000), undefined, 'an hour later');
  },
);

t.test(
  'a pull that goes on keeps its grants, however long it takes; one that stopped does not',
  async (t) => {
    const grants = new Grants();
    grants.add(id('m'), layers, 0);
    const base = id('d base');
    const top = chainId(base, id('d app'));
    const nineMinutes = 540_000;
    t.equal(grants.diffIdFor(labels(base, 'base', 'm'), undefined, nineMinutes), base);
    t.equal(grants.diffIdFor(labels(top, 'app', 'm'), base, 2 * nineMinutes), id('d app'));
    t.equal(grants.diffIdFor(labels(top, 'app', 'm'), base, 2 * nineMinutes + 600_000), undefined);
  },
);

t.test('chain IDs are those of the image spec', async (t) => {
  t.equal(chainId(undefined, id('a')), id('a'));
  t.equal(chainId(id('a'), id('b')), digestOf(Buffer.from(`${id('a')} ${id('b')}`)));
  t.equal(chainOf(`k8s.io/12/${id('a')}`), id('a'));
  t.equal(chainOf(id('a')), id('a'));
  t.equal(chainOf('k8s.io/12/extract-1 x'), undefined);
});

t.test('whatever a Prepare says: a layer goes out only under the chain ID of what it is', async () => {
  const text = fc.constantFrom('base', 'app', 'd base', 'd app', 'm', 'n');
  fc.assert(
    fc.property(text, text, text, fc.option(text, { nil: undefined }), (ref, layer, manifest, parent) => {
      const grants = new Grants();
      grants.add(id('m'), layers, 0);
      const chain = parent === undefined ? undefined : id(parent);
      const found = grants.diffIdFor(labels(id(ref), layer, manifest), chain, 1);
      const right = layers.find(({ digest }) => digest === id(layer))?.diffId;
      return (
        found === undefined || (manifest === 'm' && found === right && chainId(chain, found) === id(ref))
      );
    }),
  );
});
