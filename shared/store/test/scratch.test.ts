import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { ScratchFile, ScratchFolder, sweepScratch } from '../src/scratch/scratch.ts';

t.test('written from its start, read anywhere, gone when disposed', async (t) => {
  const folder = join(t.testdir(), 'deep', 'er');
  const file = await ScratchFile.create(folder);
  await file.append(Buffer.from('abc'));
  await file.append(Buffer.from('defg'));
  t.equal(file.sizeBytes, 7);
  t.equal(Buffer.from(await file.read(2, 3)).toString(), 'cde');
  t.equal(Buffer.concat((await file.stream().toArray()) as Buffer[]).toString(), 'abcdefg');
  await t.rejects(file.read(5, 3), RangeError);
  await file[Symbol.asyncDispose]();
  await file[Symbol.asyncDispose]();
  t.same(readdirSync(folder), []);
});

t.test('a folder is gone with all that is in it when it is disposed', async (t) => {
  const root = join(t.testdir(), 'deep');
  const folder = await ScratchFolder.create(root);
  writeFileSync(join(folder.path, 'file'), 'x');
  await sweepScratch(root);
  t.same(readdirSync(folder.path), ['file'], 'it is in use');
  await folder[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
  t.same(readdirSync(root), []);
});

t.test('what killed processes left is swept, what is in use stays', async (t) => {
  const folder = t.testdir();
  await using file = await ScratchFile.create(folder);
  const names = [
    `scratch-${process.pid}-left-by-one-before`,
    'scratch-4194305-of-nobody',
    `scratch-${process.ppid}-alive`,
    'other',
  ];
  for (const name of names) writeFileSync(join(folder, name), '');
  mkdirSync(join(folder, 'scratch-4194305-folder/inside'), { recursive: true });
  await sweepScratch(folder);
  t.notOk(existsSync(join(folder, 'scratch-4194305-folder')));
  t.ok(existsSync(file.path));
  t.same(
    readdirSync(folder)
      .filter((name) => names.includes(name))
      .sort(),
    ['other', names[2]],
  );
  await sweepScratch(join(folder, 'none'));
});
