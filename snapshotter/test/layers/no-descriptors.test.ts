import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { indexHeadBytes } from '@sepia/lazy/index/layer-index';
import { LayerIndexer } from '@sepia/lazy/index/layer-indexer';
import t from 'tap';
import { writeTar } from '../../../shared/lazy/test/support/tar-writer.ts';

const source = (path: string): string => JSON.stringify(new URL(`../../src/${path}`, import.meta.url).href);

/** Asks for the image of a large layer and unmounts what is not there, without descriptors, then with them. */
const SCRIPT = `
import { closeSync, openSync, readFileSync } from 'node:fs';
import { runMount } from ${source('files/mounts.ts')};
import { ImageProcess } from ${source('layers/image-process.ts')};
const [, , file, headBytes, dir] = process.argv;
const images = new ImageProcess(dir);
const index = { file, head: readFileSync(file).subarray(0, Number(headBytes)) };
const outcome = async (call) => {
  try {
    await call();
    return 'done';
  } catch (error) {
    return error.code + ': ' + error.message;
  }
};
const both = async () => [
  await outcome(() => images.ask(index, { type: 'image' })),
  await outcome(() => runMount('umount', ['/not-there'])),
];
// What it loads when it first starts a process.
await outcome(() => runMount('umount', ['/not-there']));
const opened = [];
try {
  for (;;) opened.push(openSync('/dev/null'));
} catch (error) {
  if (error.code !== 'EMFILE') throw error;
}
const without = await both();
for (const fd of opened) closeSync(fd);
const having = await both();
images.close();
process._rawDebug(JSON.stringify([...without, ...having]));
`;

t.test('want of descriptors is told as such: it says nothing of a layer', (t) => {
  const dir = t.testdir({ 'run.mjs': SCRIPT });
  const parts = Array.from({ length: 6_000 }, (_none, at) => ({
    name: `srv/file-${at}`,
    payload: Buffer.from(`${at}`),
  }));
  const indexer = new LayerIndexer();
  indexer.push(writeTar(parts));
  const { bytes } = indexer.end();
  const file = join(dir, 'index');
  writeFileSync(file, bytes);
  const shell = 'ulimit -n 96 && exec "$0" "$@" 2>&1';
  const args = [join(dir, 'run.mjs'), file, String(indexHeadBytes(bytes)), join(dir, 'layers')];
  const said = execFileSync('/bin/sh', ['-c', shell, process.execPath, ...args], { encoding: 'utf8' });
  t.match(JSON.parse(said), [
    /^MEMBER_BUSY: .*raise its limit of open files/,
    /^START_FAILED: umount: spawn umount EMFILE/,
    'done',
    /^START_FAILED: umount \/not-there: /,
  ]);
  t.end();
});
