import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { addImage, convert, registry, sepia, tarOf } from '../support/conversions.ts';

// Commands as processes of their own take their time on a busy machine.
t.setTimeout(180_000);

t.test('what is there stays: other images of a layout, the source itself, a tar', async (t) => {
  const { fake, host } = await registry(t);
  for (const tag of ['one', 'two', 'latest']) addImage(fake, tag, [tarOf({ a: tag })]);
  const folder = t.testdir();
  const [work, layout, tar] = ['work', 'layout', 'image.tar'].map((name) => join(folder, name));
  const named = (): [string, string][] =>
    (
      JSON.parse(readFileSync(join(layout!, 'index.json'), 'utf8')) as {
        manifests: { digest: string; annotations: Record<string, string> }[];
      }
    ).manifests.map(({ digest, annotations }) => [Object.values(annotations)[0]!, digest]);
  const { result: one } = await convert(`${host}/app:one`, layout!, work!);
  await convert(`${host}/app:two`, layout!, work!);
  const { result: two } = await convert(`${host}/app:two`, layout!, work!);
  t.same(named(), [
    ['one', one.digest],
    ['two', two.digest],
  ]);
  await convert(`${host}/app:latest`, layout!, work!);
  const before = named();
  await t.rejects(convert(layout!, layout!, work!), {
    code: 'REQUEST_INVALID',
    message: /the layout of the source/,
  });
  await convert(`${host}/app:one`, tar!, work!);
  await t.rejects(convert(`${host}/app:two`, tar!, work!), {
    code: 'REQUEST_INVALID',
    message: /is there already/,
  });
  await t.rejects(convert(`${host}/app:one`, `${host}/app:one`, work!), {
    code: 'REQUEST_INVALID',
    message: /the source itself/,
  });
  t.same(named(), before);
  const { code } = await sepia('convert', `${host}/app:two`, tar!, '--replace', '--work-dir', work!);
  t.equal(code, 0);
  writeFileSync(join(layout!, 'index.json'), '{');
  await t.rejects(convert(`${host}/app:two`, layout!, work!), /no index of an OCI layout/);
});

t.test('an image of another platform than those that are wanted is not converted', async (t) => {
  const { fake, host } = await registry(t);
  addImage(fake, 'one', [tarOf({ a: 'one' })], { architecture: 'amd64' });
  const [work, layout] = ['work', 'layout'].map((name) => join(t.testdir(), name));
  const to = async (platform: string): Promise<number | null> =>
    (await sepia('convert', `${host}/app:one`, layout!, '--platform', platform, '--work-dir', work!)).code;
  t.not(await to('linux/arm64'), 0);
  t.notOk(existsSync(join(layout!, 'index.json')));
  t.equal(await to('linux/amd64'), 0);
});
