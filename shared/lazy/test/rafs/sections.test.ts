import t from 'tap';
import { sectionHeader } from '../../src/rafs/sections.ts';

t.test('headers of sections have the mark that Nydus looks for, and a right checksum', async (t) => {
  for (const sizeBytes of [0, 4096, 2 ** 33, 2 ** 40]) {
    const header = sectionHeader('rafs.blob.toc', sizeBytes);
    t.equal(header.length, 512);
    t.equal(header.toString('latin1', 257, 265), 'ustar  \0', `${sizeBytes}`);
    const sum = Number.parseInt(header.toString('latin1', 148, 154), 8);
    const zeroed = Buffer.from(header).fill(' ', 148, 156);
    t.equal(
      sum,
      zeroed.reduce((all, byte) => all + byte, 0),
    );
  }
});
