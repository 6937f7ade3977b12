import { isCoded } from '@sepia/base/errors';
import { fc } from '@sepia/test-support/property';
import t from 'tap';
import { type ByteString, textOf } from '../../src/tar/byte-string.ts';
import { cleanPath, endOfEntry, type TarEntry } from '../../src/tar/tar-entry.ts';
import { TarReader, tarEntries } from '../../src/tar/tar-reader.ts';
import { arbitraryCuts, arbitraryParts, cutAt } from '../support/arbitrary-tar.ts';
import {
  fixSum,
  type TarForm,
  type TarPart,
  writeGlobal,
  writeOldSparse,
  writePart,
  writeTar,
} from '../support/tar-writer.ts';

const TYPE_OF: Readonly<Record<string, string>> = {
  '0': 'file',
  '1': 'hardlink',
  '2': 'symlink',
  '3': 'char',
  '4': 'block',
  '5': 'directory',
  '6': 'fifo',
};

/** What a reader must say of a part that was written in `form`. */
function expected(part: TarPart, form: TarForm): object {
  const isDevice = part.typeFlag === '3' || part.typeFlag === '4';
  return {
    type: TYPE_OF[part.typeFlag ?? '0'],
    name: part.name,
    linkName: part.linkName ?? '',
    mode: part.mode ?? 0,
    uid: part.uid ?? 0,
    gid: part.gid ?? 0,
    userName: part.userName ?? '',
    mtimeSec: part.mtimeSec ?? 0,
    mtimeNsec: form === 'gnu' ? 0 : (part.mtimeNsec ?? 0),
    devMajor: isDevice ? (part.devMajor ?? 0) : 0,
    devMinor: isDevice ? (part.devMinor ?? 0) : 0,
    xattrs: [...(part.xattrs ?? [])].map(([key, value]) => [key, Buffer.from(value).toString('hex')]),
    payload: Buffer.from(part.payload ?? []).toString('hex'),
  };
}

function found(entry: TarEntry, archive: Uint8Array): object {
  const { type, name, linkName, mode, uid, gid, userName, mtimeSec, mtimeNsec, devMajor, devMinor } = entry;
  const xattrs = [...entry.xattrs].map(([key, value]) => [key, Buffer.from(value).toString('hex')]);
  const payload = archive.subarray(entry.payloadOffset, entry.payloadOffset + entry.size);
  return {
    ...{ type, name, linkName, mode, uid, gid, userName, mtimeSec, mtimeNsec, devMajor, devMinor, xattrs },
    payload: Buffer.from(payload).toString('hex'),
  };
}

t.test('what was written is read, in both forms and in chunks of any size', async (t) => {
  fc.assert(
    fc.property(
      arbitraryParts(),
      fc.constantFrom<TarForm>('pax', 'gnu'),
      arbitraryCuts,
      (parts, form, cuts) => {
        const archive = writeTar(parts, form);
        const entries: TarEntry[] = [];
        const payloads: Buffer[][] = [];
        const reader = new TarReader({
          entry: (entry) => {
            entries.push(entry);
            payloads.push([]);
          },
          payload: (bytes) => void payloads.at(-1)!.push(Buffer.from(bytes)),
        });
        for (const chunk of cutAt(archive, cuts)) reader.push(chunk);
        reader.end();
        t.same(
          entries.map((entry) => found(entry, archive)),
          parts.map((part) => expected(part, form)),
        );
        t.same(
          payloads.map((all) => Buffer.concat(all).toString('hex')),
          parts.map((part) => Buffer.from(part.payload ?? []).toString('hex')),
        );
        let end = 0;
        for (const entry of entries) {
          if (entry.headerOffset !== end) throw new Error('entries are not adjacent');
          end = endOfEntry(entry);
        }
        t.equal(end, archive.length - 1024);
      },
    ),
    { numRuns: 150 },
  );
});

t.test('payloads that nobody reads are passed over, in as many steps as one likes', async (t) => {
  fc.assert(
    fc.property(
      arbitraryParts(),
      fc.constantFrom<TarForm>('pax', 'gnu'),
      fc.integer({ min: 1, max: 2_000 }),
      (parts, form, most) => {
        const archive = writeTar(parts, form);
        const entries: TarEntry[] = [];
        const reader = new TarReader({ entry: (entry) => void entries.push(entry) });
        for (let at = 0; at < archive.length; ) {
          const skipped = reader.skip(Math.min(most, archive.length - at));
          if (skipped === 0) reader.push(archive.subarray(at, at + 512));
          at += skipped === 0 ? 512 : skipped;
        }
        reader.end();
        t.same(entries, tarEntries(archive));
      },
    ),
    { numRuns: 100 },
  );
  const cut = new TarReader({ entry: () => undefined });
  const archive = writeTar([{ name: 'a', payload: Buffer.alloc(600) }], 'pax');
  cut.push(archive.subarray(0, 512));
  t.equal(cut.skip(100), 100);
  t.throws(() => cut.end(), { code: 'LAYER_INVALID', message: 'tar archive is cut short' });
});

t.test('bytes that are no archive are refused by code, never by an accident', async (t) => {
  let refused = 0;
  fc.assert(
    fc.property(
      arbitraryParts(4),
      fc.constantFrom<TarForm>('pax', 'gnu'),
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 6 }),
      fc.boolean(),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (parts, form, flips, doFix, cut) => {
        const archive = writeTar(parts, form);
        for (const [at, value] of flips) {
          const index = at % archive.length;
          archive[index] = value;
          if (doFix) fixSum(archive.subarray(index - (index % 512), index - (index % 512) + 512));
        }
        try {
          tarEntries(archive.subarray(0, Math.floor(cut * archive.length) + 1));
        } catch (error) {
          if (!isCoded(error, 'LAYER_INVALID')) throw error;
          refused += 1;
        }
      },
    ),
    { numRuns: 400 },
  );
  t.ok(refused > 50, 'bad archives were tried');
});

t.test('global headers apply to what follows, below the entry’s own', async (t) => {
  const archive = Buffer.concat([
    writePart({ name: 'before' }),
    writeGlobal(
      new Map([
        ['mtime', '77.5'],
        ['uid', '9'],
        ['comment', 'x'],
      ]),
    ),
    writePart({ name: 'both', uid: 1 }),
    writePart({ name: 'own', pax: new Map([['uid', '3']]) }),
    writeGlobal(new Map([['uid', '']])),
    writePart({ name: 'after', uid: 1 }),
    Buffer.alloc(1024),
  ]);
  t.same(
    tarEntries(archive).map((one) => [one.name, one.uid, one.mtimeSec, one.mtimeNsec, one.usesGlobals]),
    [
      ['before', 0, 0, 0, false],
      ['both', 9, 77, 500_000_000, true],
      ['own', 3, 77, 500_000_000, true],
      ['after', 1, 77, 500_000_000, true],
    ],
  );
});

t.test('of several extended headers the last one counts, and none goes past a global one', async (t) => {
  const extended = (pax: readonly [string, string][]): Buffer =>
    writePart({ name: 'x', pax: new Map(pax) }).subarray(0, 1024);
  const archive = Buffer.concat([
    extended([
      ['SCHILY.xattr.user.a', '1'],
      ['uid', '7'],
    ]),
    extended([['SCHILY.xattr.user.b', '2']]),
    writePart({ name: 'twice' }),
    extended([['uid', '7']]),
    writeGlobal(new Map([['comment', 'x']])),
    writePart({ name: 'behind', uid: 1 }),
    Buffer.alloc(1024),
  ]);
  t.same(
    tarEntries(archive).map((one) => [one.name, one.uid, [...one.xattrs.keys()]]),
    [
      ['twice', 0, ['user.b']],
      ['behind', 1, []],
    ],
  );
});

t.test('what stands before one entry has an end', async (t) => {
  const invalid = (archive: Buffer): unknown =>
    t.throws(() => tarEntries(archive), { code: 'LAYER_INVALID' });
  const long = writePart({ name: 'L', typeFlag: 'L', payload: Buffer.alloc(1024 * 1024, 'a') });
  invalid(Buffer.concat([long, long, long, long, long, writePart({ name: 'x' })]));
  t.equal(tarEntries(Buffer.concat([long, long, long, writePart({ name: 'x' })])).length, 1);
  const records = (count: number): Map<string, string> =>
    new Map(Array.from({ length: count }, (_none, index) => [`k${index}`, 'v']));
  invalid(Buffer.concat([writeGlobal(records(65)), writePart({ name: 'x' })]));
  t.equal(tarEntries(Buffer.concat([writeGlobal(records(64)), writePart({ name: 'x' })])).length, 1);
  const sparse = writeOldSparse({ name: 's' }, [0, 0, 0, 0], 0);
  const more = Buffer.alloc(512);
  more[504] = 1;
  invalid(Buffer.concat([sparse.subarray(0, 512), ...Array.from({ length: 70_000 }, () => more), sparse]));
});

t.test('old forms: version 7, a directory by its slash, signed sums, a prefix, unusual ends', async (t) => {
  const v7 = Buffer.from(writePart({ name: 'dir/', typeFlag: '\0', mode: 0o755 }));
  v7.fill(0, 257, 512);
  const prefixed = Buffer.from(writePart({ name: 'name' }));
  prefixed.write('some/prefix', 345, 'latin1');
  const star = Buffer.from(writePart({ name: 'name' }));
  star.write('star', 345, 'latin1');
  star.write('00000000001 00000000002 tar\0', 476 + 8, 'latin1');
  star.write('tar\0', 508, 'latin1');
  const archive = Buffer.concat([fixSum(v7), fixSum(prefixed), fixSum(star)]);
  t.same(
    tarEntries(archive).map((one) => [one.type, one.name]),
    [
      ['directory', 'dir/'],
      ['file', 'some/prefix/name'],
      ['file', 'star/name'],
    ],
  );
  const signed = Buffer.from(writePart({ name: '\xff\xfe' }));
  const sum = signed
    .subarray(0, 512)
    .reduce((all, byte, i) => all + (i > 147 && i < 156 ? 32 : (byte << 24) >> 24), 0);
  signed.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  t.equal(tarEntries(signed)[0]!.name, '\xff\xfe');
  t.equal(textOf(tarEntries(signed)[0]!.name), '\ufffd\ufffd');
  const noPadding = writePart({ name: 'x', payload: Buffer.from('abc') }).subarray(0, 512 + 3);
  t.equal(tarEntries(noPadding).length, 1);
  t.same(tarEntries(Buffer.alloc(0)), []);
  const trailing = Buffer.concat([writeTar([{ name: 'x' }]), Buffer.alloc(700, 1)]);
  t.equal(tarEntries(trailing).length, 1, 'what follows the end is ignored');
});

t.test('links and directories have no payload, whatever their header says', async (t) => {
  const link = Buffer.from(writePart({ name: 'l', typeFlag: '1', linkName: 'x' }));
  link.write('00000001000\0', 124, 'latin1');
  const [entry, next] = tarEntries(Buffer.concat([fixSum(link), writePart({ name: 'next' })]));
  t.equal(entry!.size, 0);
  t.equal(next!.name, 'next');
});

t.test('sparse files of every form are told', async (t) => {
  const archive = writeTar([
    { name: 'old', typeFlag: 'S' },
    { name: 'zero', pax: new Map([['GNU.sparse.numblocks', '1']]) },
    {
      name: 'one',
      pax: new Map([
        ['GNU.sparse.major', '1'],
        ['GNU.sparse.minor', '0'],
      ]),
    },
    { name: 'plain' },
  ]);
  t.same(
    tarEntries(archive).map((one) => [one.name, one.type, one.sparse]),
    [
      ['old', 'other', true],
      ['zero', 'file', true],
      ['one', 'file', true],
      ['plain', 'file', false],
    ],
  );
});

t.test(
  'an extended header without its entry, a single zero block in the middle, a huge header',
  async (t) => {
    const invalid = (archive: Buffer): unknown =>
      t.throws(() => tarEntries(archive), { code: 'LAYER_INVALID' });
    const extended = writePart({ name: 'x', pax: new Map([['uid', '1']]) });
    invalid(extended.subarray(0, 1024));
    invalid(Buffer.concat([Buffer.alloc(512), writePart({ name: 'x' })]));
    invalid(writePart({ name: 'L', typeFlag: 'L', payload: Buffer.alloc(1024 * 1024 + 1) }));
    invalid(writePart({ name: 'x', pax: new Map([['size', '9007199254740000']]) }));
    invalid(writePart({ name: 'x', pax: new Map([['uid', 'many']]) }));
    invalid(writePart({ name: 'x', pax: new Map([['mtime', 'now']]) }));
  },
);

t.test('paths are cleaned as a root would resolve them', async (t) => {
  const cases: [string, string][] = [
    ['./a//b/./c/', 'a/b/c'],
    ['/', ''],
    ['.', ''],
    ['../../a', 'a'],
    ['a/../../b', 'b'],
  ];
  for (const [from, to] of cases) t.equal(cleanPath(from as ByteString), to, from);
});
