import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { indexTar } from '../../src/image/tar-index.ts';

/** A header of POSIX ustar with a right checksum; `size`: its field, as it stands there. */
function header(name: string, size: string, type = '0'): Buffer {
  const block = Buffer.alloc(512);
  block.write(name, 0);
  block.write(size, 124);
  block.write(type, 156);
  block.write('ustar\x0000', 257);
  block.fill(' ', 148, 156);
  const sum = block.reduce((all, byte) => all + byte, 0);
  block.write(`${sum.toString(8).padStart(6, '0')}\0`, 148);
  return block;
}

function padded(text: string): Buffer {
  const bytes = Buffer.alloc(Math.ceil(text.length / 512) * 512);
  bytes.write(text);
  return bytes;
}

t.test('a size that leads back, or is none, ends the reading', async (t) => {
  const file = join(t.testdir(), 'x.tar');
  for (const size of ['-1000', '-7777777', 'zzz']) {
    writeFileSync(file, Buffer.concat([header('a', size), Buffer.alloc(2048)]));
    await t.rejects(indexTar(file), { code: 'REQUEST_INVALID', message: /is no tar/ }, size);
  }
  writeFileSync(file, Buffer.concat([header('pax', '16', 'x'), padded('14 size=-1000\n'), header('a', '0')]));
  await t.rejects(indexTar(file), { code: 'REQUEST_INVALID', message: /header is not valid: size/ });
});

t.test('what has holes lies otherwise in a tar than it is', async (t) => {
  const file = join(t.testdir(), 'x.tar');
  const before = [header('pax', '33', 'x'), padded('27 GNU.sparse.size=1048576\n')];
  for (const parts of [[...before, header('a', '3')], [header('a', '3', 'S')]]) {
    writeFileSync(file, Buffer.concat([...parts, padded('abc'), Buffer.alloc(1024)]));
    await t.rejects(indexTar(file), { code: 'REQUEST_INVALID', message: /a has holes/ });
  }
});

t.test('the size of a large file stands in its pax header', async (t) => {
  const file = join(t.testdir(), 'x.tar');
  const parts = [
    header('pax', '14', 'x'),
    padded('12 size=600\n'),
    header('large', '0'),
    padded('x'.repeat(600)),
    header('next', '3'),
    padded('abc'),
    Buffer.alloc(1024),
  ];
  writeFileSync(file, Buffer.concat(parts));
  const files = await indexTar(file);
  t.match(files.get('large'), { offset: 1536, sizeBytes: 600 });
  t.match(files.get('next'), { offset: 1536 + 1024 + 512, sizeBytes: 3 });
});
