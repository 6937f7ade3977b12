import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { JsonFolder } from '../src/scratch/json-folder.ts';

const isValue = (value: unknown): value is { n: number } => typeof (value as { n?: unknown }).n === 'number';

t.test('what was put is there, for another object too; everything else counts as none', async (t) => {
  const folder = join(t.testdir(), 'deep');
  const one = new JsonFolder(folder, isValue);
  t.equal(await one.get('a'), undefined);
  await one.put('a', { n: 1 });
  await one.put('a', { n: 2 });
  t.same(await new JsonFolder(folder, isValue).get('a'), { n: 2 });
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
