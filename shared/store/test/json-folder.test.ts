import { randomUUID } from 'node:crypto';
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { JsonFolder } from '../src/scratch/json-folder.ts';

const isValue = (value: unknown): value is { n: number } => typeof (value as { n?: unknown }).n === 'number';

t.test('what was put is there, for another object too; everything else counts as none', async (t) => {
  const folder = join(t.testdir(), 'deep');
  const one = await JsonFolder.open(folder, isValue);
  t.equal(await one.get('a'), undefined);
  await one.put('a', { n: 1 });
  await one.put('a', { n: 2 });
  t.same(await (await JsonFolder.open(folder, isValue)).get('a'), { n: 2 });
  t.same(readdirSync(folder), ['a'], 'nothing else is left');
  for (const [name, text] of [
    ['cut', '{"n":'],
    ['other', '{"m":1}'],
    ['null', 'null'],
  ] as const) {
    writeFileSync(join(folder, name), text);
    t.equal(await one.get(name), undefined, name);
  }
  await t.rejects(one.get('../a'), TypeError);
});

t.test('what a killed process left half is swept, what another writes is not', async (t) => {
  const folder = t.testdir();
  const names = [4_194_305, process.pid, process.ppid].map((pid) => `a.${pid}-${randomUUID()}`);
  for (const name of [...names, 'a', 'other.txt']) writeFileSync(join(folder, name), '{"n":1}');
  const opened = await JsonFolder.open(folder, isValue);
  t.same(readdirSync(folder).sort(), ['a', names[2]!, 'other.txt'].sort());
  t.same(await opened.get('a'), { n: 1 });
  const put = Array.from({ length: 5 }, async (_, n) => await opened.put(`b${n}`, { n }));
  await JsonFolder.open(folder, isValue);
  await Promise.all(put);
  t.same(await opened.get('b4'), { n: 4 });
});
