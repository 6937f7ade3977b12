import { layerTree } from '@sepia/lazy/erofs/layer-tree';
import type { Found } from '@sepia/lazy/erofs/merged-tree';
import { layerEntry } from '@sepia/lazy/index/layer-entry';
import { tarEntries } from '@sepia/lazy/tar/tar-reader';
import t from 'tap';
import { type TarPart, writeTar } from '../../../shared/lazy/test/support/tar-writer.ts';
import { writeElf } from '../../../shared/lazy/test/support/write-elf.ts';
import { findStartFiles } from '../../src/offers/start-files.ts';

const MIB = 1024 * 1024;
const file = (name: string, content: string | Buffer = 'x'): TarPart => ({
  name,
  payload: Buffer.from(content),
});
const link = (name: string, linkName: string): TarPart => ({ name, typeFlag: '2', linkName });

/** The parts that a command reads first of these layers, as `path` or `path offset+length`. */
async function parts(layers: TarPart[][], words: string[], more: object = {}): Promise<string[]> {
  const tars = layers.map((one) => writeTar(one));
  const told: string[] = [];
  const command = { words, path: '/usr/local/bin:/usr/bin:/bin', loaderPath: '', folder: '/app', ...more };
  await findStartFiles(
    {
      trees: tars.map((tar) => layerTree(tarEntries(tar).map(layerEntry))),
      read: async ({ layer, node }: Found, offset, length) => {
        if (offset + length > node.size) throw new Error(`${offset} + ${length} is outside`);
        return tars[layer]!.subarray(node.offset + offset, node.offset + offset + length);
      },
      onPart: ({ path, node }, offset, length) =>
        told.push(length === node.size ? path : `${path} ${offset}+${length}`),
    },
    command,
  );
  return told;
}

const LINKER = '/lib64/ld-linux-x86-64.so.2';
const BASE = [
  link('lib', 'usr/lib'),
  link('lib64', 'usr/lib64'),
  file('usr/lib64/ld-linux-x86-64.so.2', writeElf({})),
  file('usr/lib/x86_64-linux-gnu/libc.so.6', writeElf({ interpreter: LINKER })),
  link('usr/lib/x86_64-linux-gnu/libz.so.1', 'libz.so.1.3'),
  file('usr/lib/x86_64-linux-gnu/libz.so.1.3', writeElf({ needed: ['libc.so.6'] })),
  file('usr/bin/sh', writeElf({ interpreter: LINKER, needed: ['libc.so.6'] })),
];

t.test('a program, its linker, its libraries breadth first, each once', async (t) => {
  const tool = writeElf({
    interpreter: LINKER,
    needed: ['libz.so.1', 'libown.so'],
    runpath: '$ORIGIN/../lib',
  });
  const own = [
    file('opt/tool/bin/run', tool),
    file('opt/tool/lib/libown.so', writeElf({ needed: ['libc.so.6'] })),
    link('usr/local/bin/tool', '../../../opt/tool/bin/run'),
  ];
  t.same(await parts([BASE, own], ['tool', '--verbose']), [
    '/opt/tool/bin/run',
    '/usr/lib64/ld-linux-x86-64.so.2',
    '/usr/lib/x86_64-linux-gnu/libz.so.1.3',
    '/opt/tool/lib/libown.so',
    '/usr/lib/x86_64-linux-gnu/libc.so.6',
  ]);
});

t.test('a script leads to its interpreter; words of the command are files or programs', async (t) => {
  const own = [
    file('app/start.sh', '#!/usr/bin/env -S X=1 sh -e\nexec "$@"'),
    file('app/main.py', 'print()'),
    file('usr/bin/python', '#! /bin/missing\n'),
    file('usr/bin/env', 'not ELF'),
  ];
  t.same(await parts([BASE, own], ['./start.sh', 'python', '-u', 'main.py', '/app/main.py']), [
    '/app/start.sh',
    '/usr/bin/env',
    '/usr/bin/sh',
    '/usr/lib64/ld-linux-x86-64.so.2',
    '/usr/lib/x86_64-linux-gnu/libc.so.6',
    '/usr/bin/python',
    '/app/main.py',
  ]);
});

t.test('of a large program its beginning and its end', async (t) => {
  const large = Buffer.concat([writeElf({ needed: ['libc.so.6'] }), Buffer.alloc(20 * MIB)]);
  t.same(await parts([BASE, [file('app/large', large)]], ['/app/large']), [
    `/app/large 0+${4 * MIB}`,
    `/app/large ${large.length - 2 * MIB}+${2 * MIB}`,
    '/usr/lib/x86_64-linux-gnu/libc.so.6',
    '/usr/lib64/ld-linux-x86-64.so.2',
  ]);
});

t.test('what is not there, is a folder, an empty file or leads in a circle is left out', async (t) => {
  const own = [
    link('usr/bin/around', 'around'),
    { name: 'usr/bin/folder', typeFlag: '5' },
    file('usr/bin/empty', ''),
    file('usr/bin/loop', '#!/usr/bin/loop\n'),
    file('usr/bin/torn', writeElf({ needed: ['nowhere.so', '../x'] }).subarray(0, 70)),
  ];
  t.same(await parts([own], ['around', 'folder', 'empty', 'loop', 'torn', 'none', '/none', '']), [
    '/usr/bin/loop',
    '/usr/bin/torn',
  ]);
  const many = Array.from({ length: 300 }, (_none, index) => file(`app/lib${index}.so`, writeElf({})));
  const needed = many.map(({ name }) => `/${name}`);
  const first = file('app/first', writeElf({ needed }));
  t.equal((await parts([[...many, first]], ['/app/first'])).length, 200, 'no more than 200 files');
});
