import { digestOf } from '@sepia/base/digest';
import t from 'tap';
import { readCommand, readDiffIds } from '../../../src/lazy/core/image-config.ts';

const A = digestOf(Buffer.from('a'));
const B = digestOf(Buffer.from('b'));
const read = (text: string | Buffer, layers = 1) => readDiffIds(Buffer.from(text as string), layers);

t.test('a config as its most lenient reader takes it', async (t) => {
  t.same(read(JSON.stringify({ rootfs: { type: 'layers', diff_ids: [A, B] } }), 2), { diffIds: [A, B] });
  const odd = Buffer.from(`{"author":"\xff","rootfs":{"diff_ids":["${A}"]}}`, 'latin1');
  t.same(readDiffIds(odd, 1), { diffIds: [A] }, 'not UTF-8: containerd reads it all the same');
  for (const text of ['', '{', '[]', 'null', '{}', '{"rootfs":1}', '{"rootfs":{"diff_ids":[1]}}'])
    t.equal(read(text), undefined, `${text}: nobody unpacks it`);
  t.equal(read(JSON.stringify({ rootfs: { diff_ids: [A] } }), 2), undefined, 'too few');
});

t.test('what may be another image to containerd is doubted', async (t) => {
  const twice = `{"rootfs":{"diff_ids":["${A}"]},"RootFS":{"diff_ids":["${B}"]}}`;
  t.match(read(twice), { doubt: /in two ways/ });
  t.match(read(JSON.stringify({ rootfs: { diff_ids: [A, 'x'] } }), 2), { doubt: /none/ });
});

t.test('what an image runs, as a hint', async (t) => {
  const run = (config: unknown) => readCommand(Buffer.from(JSON.stringify({ config })));
  t.same(
    run({
      Entrypoint: ['/start.sh'],
      Cmd: ['serve', 7],
      Env: ['PATH=/old', 'PATH=/app/bin:/bin', 'LD_LIBRARY_PATH=/app/lib', 'X'],
      WorkingDir: '/app',
    }),
    { words: ['/start.sh', 'serve'], path: '/app/bin:/bin', loaderPath: '/app/lib', folder: '/app' },
  );
  t.match(run({ Cmd: ['a'], WorkingDir: '' }), { words: ['a'], path: /^\/usr\/local\/sbin:/, folder: '/' });
  for (const nothing of [undefined, null, 1, [], {}, { Cmd: 'a' }, { Cmd: [] }, { Entrypoint: [{}] }])
    t.equal(run(nothing), undefined, JSON.stringify(nothing));
  t.equal(readCommand(Buffer.from('{')), undefined);
  const many = run({ Cmd: Array.from({ length: 100 }, () => 'x'), Env: [`PATH=${'x'.repeat(5_000)}`] });
  t.equal(many?.words.length, 16);
  t.match(many?.path, /^\/usr/, 'what is too long is left out');
});
