import { mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { digestOf } from '@sepia/base/digest';
import { createLogger } from '@sepia/base/log';
import t from 'tap';
import { KeptImages } from '../../src/offers/kept-images.ts';

const digest = (text: string) => digestOf(Buffer.from(text), 'sha256');
const OFFER = {
  upstream: 'local',
  repository: 'team/app',
  manifest: digest('manifest'),
  layers: [{ sizeBytes: 30 }, { sizeBytes: 4 }],
} as Parameters<KeptImages['table']['note']>[0];
const LAYERS = [
  { digest: digest('a'), diffId: digest('b'), reason: undefined },
  { digest: digest('c'), diffId: digest('d'), reason: 'no index' },
];

function logged(): { log: ReturnType<typeof createLogger>; lines: string[] } {
  const lines: string[] = [];
  const log = createLogger('snapshotter', 'node', 'warn', { write: (line) => void lines.push(line) });
  return { log, lines };
}

t.test('how an image stood at its pull is known after a restart, until it is pulled again', async (t) => {
  const dir = t.testdir();
  const { log, lines } = logged();
  const first = await KeptImages.open(log, dir);
  t.same(first.table.list(), []);
  first.table.note(OFFER, { isLazy: false, reason: 'too late', layers: LAYERS }, 7);
  first.table.note({ ...OFFER, repository: 'team/other' }, { isLazy: true, layers: LAYERS }, 8);
  await first.settled();
  const second = await KeptImages.open(log, dir);
  t.match(second.table.list(), [
    {
      image: 'local/team/app',
      manifest: OFFER.manifest,
      isLazy: false,
      reason: 'too late',
      layers: [{ digest: digest('a') }, { reason: 'no index' }],
      atMs: 7,
    },
    { image: 'local/team/other', isLazy: true },
  ]);
  second.table.note(OFFER, { isLazy: true, layers: [] }, 9);
  await second.settled();
  const third = await KeptImages.open(log, dir);
  t.match(third.table.list(), [
    { image: 'local/team/other' },
    { image: 'local/team/app', isLazy: true, atMs: 9 },
  ]);
  t.same(lines, []);
});

t.test('a file that is something else is as none', async (t) => {
  for (const text of ['', '{', '[{"image": 7}]', '{"images": []}']) {
    const dir = t.testdir({ 'images.json': text });
    const { log } = logged();
    const kept = await KeptImages.open(log, dir);
    t.same(kept.table.list(), [], text);
    kept.table.note(OFFER, { isLazy: true, layers: LAYERS }, 7);
    await kept.settled();
    t.equal((await KeptImages.open(log, dir)).table.list().length, 1, 'and is replaced');
  }
});

t.test('where nothing can be read or written all goes on, and the log says so', async (t) => {
  const dir = t.testdir();
  mkdirSync(join(dir, 'images.json'));
  mkdirSync(join(dir, 'images.json.new'));
  writeFileSync(join(dir, 'images.json.new/x'), '');
  const { log, lines } = logged();
  const kept = await KeptImages.open(log, dir);
  t.match(lines, [/former pulls cannot be read/]);
  kept.table.note(OFFER, { isLazy: true, layers: LAYERS }, 7);
  await kept.settled();
  t.match(lines, [/cannot be read/, /forgotten at the next start/]);
  t.equal(kept.table.list().length, 1);
  rmdirSync(join(dir, 'images.json'));
});

t.test('the smallest image with a layer is known, after a restart too', async (t) => {
  const dir = t.testdir({
    'images.json': JSON.stringify([
      { image: 'local/old', manifest: digest('old'), isLazy: true, layers: [{ ...LAYERS[1] }], atMs: 1 },
    ]),
  });
  const { log, lines } = logged();
  const first = await KeptImages.open(log, dir);
  t.equal(first.table.smallestWith(digest('c')), undefined, 'an older version did not say it');
  first.table.note(OFFER, { isLazy: true, layers: LAYERS }, 7);
  t.equal(first.table.smallestWith(digest('c')), 34);
  const small = { ...OFFER, repository: 'team/small', layers: OFFER.layers.slice(1) };
  first.table.note(small, { isLazy: true, layers: LAYERS.slice(1) }, 8);
  await first.settled();
  for (const { table } of [first, await KeptImages.open(log, dir)]) {
    t.equal(table.smallestWith(digest('a')), 34);
    t.equal(table.smallestWith(digest('c')), 4);
    t.equal(table.smallestWith(digest('x')), undefined);
  }
  t.same(lines, []);
});
