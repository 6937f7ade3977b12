import { readFileSync } from 'node:fs';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { elfNeeds } from '../../src/elf/elf-needs.ts';
import { writeElf } from '../support/write-elf.ts';

const readerOf =
  (bytes: Uint8Array, onRead: (length: number) => unknown = () => undefined) =>
  async (offset: number, length: number): Promise<Uint8Array> => {
    onRead(length);
    return bytes.subarray(offset, offset + length);
  };

const FACTS = {
  interpreter: '/lib64/ld-linux-x86-64.so.2',
  needed: ['libpython3.so.1', 'libc.so.6'],
  runpath: '$ORIGIN/../lib:/opt/lib',
};

t.test('linker, libraries and folders of both classes and byte orders', async (t) => {
  for (const is64 of [true, false]) {
    for (const isLittle of [true, false]) {
      const needs = await elfNeeds(readerOf(writeElf({ ...FACTS, is64, isLittle, machine: 183 })));
      t.same(
        needs,
        {
          interpreter: FACTS.interpreter,
          libraries: FACTS.needed,
          folders: ['$ORIGIN/../lib', '/opt/lib'],
          machine: 183,
        },
        `${is64 ? 64 : 32} bits, ${isLittle ? 'little' : 'big'} endian`,
      );
    }
  }
});

t.test('RUNPATH comes before RPATH, which stands alone else; a static file needs nothing', async (t) => {
  t.match(await elfNeeds(readerOf(writeElf({ rpath: '/old', runpath: '/new' }))), { folders: ['/new'] });
  t.match(await elfNeeds(readerOf(writeElf({ rpath: '/old' }))), { folders: ['/old'] });
  t.same(await elfNeeds(readerOf(writeElf({}))), {
    interpreter: undefined,
    libraries: [],
    folders: [],
    machine: 62,
  });
});

t.test('a real program: what runs this test', async (t) => {
  const bytes = readFileSync(process.execPath);
  const reads: number[] = [];
  const needs = await elfNeeds(readerOf(bytes, (length) => reads.push(length)));
  const total = reads.reduce((sum, one) => sum + one, 0);
  if (process.platform === 'linux') t.match(needs?.interpreter, /ld-|musl/);
  t.ok(total < 2_000_000, `${total} bytes of ${bytes.length} were read`);
});

t.test('what is no ELF file, or a damaged one, is none; reads are bounded', async (t) => {
  for (const text of ['', '#!/bin/sh\n', '\x7fELF', `\x7fELF${'\xff'.repeat(80)}`])
    t.equal(await elfNeeds(readerOf(Buffer.from(text, 'latin1'))), undefined, JSON.stringify(text));
  const whole = writeElf(FACTS);
  let runs = 0;
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 6 }),
      fc.nat(whole.length),
      async (flips, cut) => {
        const bytes = Buffer.from(whole.subarray(0, cut === 0 ? whole.length : cut));
        for (const [at, value] of flips) if (at < bytes.length) bytes[at] = value;
        const reads: number[] = [];
        await elfNeeds(readerOf(bytes, (length) => reads.push(length)));
        runs += 1;
        return Math.max(0, ...reads) <= 1024 * 1024;
      },
    ),
    { numRuns: 2_000 },
  );
  t.ok(runs >= 2_000, `${runs} damaged files`);
});
