import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Digest, digestHex, digestOf } from '@sepia/base/digest';
import t from 'tap';
import { IndexFolder } from '../../src/layers/index-folder.ts';
import { unread } from '../support/unread.ts';

const BYTES = Buffer.from('an index');
const LAYER = `sha256:${'a'.repeat(64)}` as Digest;
const FACTS = { layer: LAYER, index: digestOf(BYTES), image: 'registry.example/team/app' };
const read = async (): Promise<Buffer> => BYTES;

t.test('an index is kept, found by the next process, and forgotten', async (t) => {
  const dir = t.testdir();
  const folder = new IndexFolder(dir);
  const kept = await folder.keep(FACTS, read);
  const [found, ...others] = await new IndexFolder(dir).list();
  t.match(found, { ...FACTS, file: kept.file });
  t.ok(Math.abs(found!.keptMs - kept.keptMs) < 60_000);
  t.same(others, []);
  await folder.forgetting(LAYER)();
  t.same(await new IndexFolder(dir).list(), []);
  t.notOk(existsSync(join(dir, `${digestHex(LAYER)}.lazy`)));
});

t.test('an index that is asked for again before it is forgotten stays', async (t) => {
  const dir = t.testdir();
  const folder = new IndexFolder(dir);
  await folder.keep(FACTS, read);
  const forget = folder.forgetting(LAYER);
  const [kept] = await Promise.all([folder.keep(FACTS, read), forget()]);
  t.ok(existsSync(kept.file));
  t.equal((await new IndexFolder(dir).list()).length, 1);
});

t.test('what lies in the place of an index and is no file is not opened, and makes room', async (t) => {
  const dir = t.testdir();
  const stem = join(dir, digestHex(LAYER));
  const put = {
    pipe: (path: string) => execFileSync('mkfifo', [path]),
    folder: (path: string) => mkdirSync(join(path, 'inner'), { recursive: true }),
  };
  for (const place of Object.values(put))
    for (const part of ['json', 'lazy']) {
      await new IndexFolder(dir).keep(FACTS, read);
      rmSync(`${stem}.${part}`);
      place(`${stem}.${part}`);
      const next = new IndexFolder(dir);
      t.same(await next.list(), [], part);
      await next.keep(FACTS, read);
      t.equal((await new IndexFolder(dir).list()).length, 1, part);
    }
});

for (const part of ['json', 'lazy'])
  t.test(`the disk does not read what was kept (${part}): it is got again`, async (t) => {
    const dir = t.testdir();
    const kept = await new IndexFolder(dir).keep(FACTS, read);
    await unread(t, join(dir, `${digestHex(LAYER)}.${part}`));
    const next = new IndexFolder(dir);
    t.equal((await next.list()).length, part === 'json' ? 0 : 1, 'and the daemon starts');
    let asked = 0;
    await next.keep(FACTS, async () => {
      asked += 1;
      return BYTES;
    });
    t.equal(asked, part === 'json' ? 0 : 1);
    t.same(await readFile(kept.file), BYTES);
    t.equal((await new IndexFolder(dir).list()).length, 1);
  });

t.test('bytes that are another index are not kept', async (t) => {
  const folder = new IndexFolder(t.testdir());
  await folder.list();
  await t.rejects(
    folder.keep(FACTS, async () => Buffer.from('other')),
    { code: 'DIGEST_MISMATCH' },
  );
  t.same(await folder.list(), []);
});
