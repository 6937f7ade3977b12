import t from 'tap';
import { arrange } from '../../src/estargz/arrange.ts';
import { cutMembers } from '../../src/estargz/cut.ts';
import { tarEntries } from '../../src/tar/tar-reader.ts';
import { type TarPart, writeTar } from '../support/tar-writer.ts';

t.test('headers without content go in batches of their own, not all at once', async (t) => {
  const parts: TarPart[] = Array.from({ length: 30_000 }, (_, n) => ({ name: `f${n}`, mode: 0o644 }));
  const tar = writeTar(parts);
  const arranged = arrange(tarEntries(tar), { sparse: new Map(), withLandmark: false });
  if ('unfit' in arranged) throw new Error(arranged.unfit);
  for (const isExact of [false, true])
    for (const minChunkBytes of [0, 1 << 20]) {
      const cut = { chunkBytes: 4 << 20, minChunkBytes, isExact, tarBytes: tar.length };
      const sizes = [...cutMembers(arranged.entries, cut)].map((batch) => batch.sizeBytes);
      t.equal(
        sizes.reduce((sum, size) => sum + size, 0),
        30_000 * 512,
      );
      t.ok(Math.max(...sizes) <= 5 << 20, `the longest of ${sizes.length} has ${Math.max(...sizes)} bytes`);
    }
});

t.test('directories without an end that only paths name leave the layer as it is', async (t) => {
  const arranged = (parts: readonly TarPart[]): unknown =>
    arrange(tarEntries(writeTar(parts)), { withLandmark: false });
  const deep = (count: number): TarPart[] =>
    Array.from({ length: count }, (_none, index) => ({ name: `${index}/${'a/'.repeat(1999)}f` }));
  t.notMatch(arranged(deep(50)), { unfit: /./ });
  t.match(arranged(deep(51)), { unfit: 'too many directories have no entry of their own' });
});

t.test('names of thousands of parts cost each part once', async (t) => {
  const deep = 'd/'.repeat(8_000);
  const names = Array.from({ length: 400 }, (_none, index) => ({ name: `${deep}${index}` }));
  const arranged = arrange(tarEntries(writeTar(names)));
  t.equal('unfit' in arranged ? arranged.unfit : arranged.entries.length, names.length + 1);
  for (const long of [
    { name: 'n'.repeat(16_384) },
    { name: 'l', typeFlag: '1', linkName: 'n'.repeat(16_384) },
  ])
    t.match(arrange(tarEntries(writeTar([long]))), { unfit: /a name of more than 16383 bytes/ });
});

t.test('what lies below a file has no place, whatever was there before', async (t) => {
  const [above, file] = [{ name: 'd/e/x' }, { name: 'd' }];
  const unfitOf = (...parts: TarPart[]): unknown => {
    const arranged = arrange(tarEntries(writeTar(parts)));
    return 'unfit' in arranged ? arranged.unfit : undefined;
  };
  const below = '"d/e/y" lies below "d", which is no directory';
  t.equal(unfitOf(above, { name: 'd/e/y' }), undefined);
  t.equal(unfitOf(file, { name: 'd/e/y' }), below);
  t.equal(unfitOf(above, file, { name: 'd/e/y' }), below, 'also where its way was known');
  t.equal(unfitOf(above, file, { name: 'd', typeFlag: '5' }, { name: 'd/e/y' }), undefined);
  t.equal(unfitOf({ name: 'd', typeFlag: '5' }, above, file, { name: 'd/e/y' }), below);
});
