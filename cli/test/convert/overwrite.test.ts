import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { addImage, convert, registry, tarOf } from '../support/conversions.ts';
import { MAIN, sepia } from '../support/sepia.ts';

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

t.test('a tar whose conversion was killed leaves nothing that the next run does not take away', async (t) => {
  const { fake, host } = await registry(t);
  addImage(fake, 'one', [tarOf({ a: 'one' }), tarOf({ b: 'two' })]);
  const folder = t.testdir({ out: {}, work: {} });
  const [out, work, tar] = ['out', 'work/work', 'out/image.tar'].map((name) => join(folder, name));
  const args = ['convert', `${host}/app:one`, tar!, '--work-dir', join(folder, 'work')];
  const child = spawn(process.execPath, [MAIN, ...args], { stdio: 'ignore' });
  let blobs = 0;
  fake.guard = (request) => {
    if (request.method === 'GET' && request.url?.includes('/blobs/') === true) blobs += 1;
    // The config, and the first layer.
    if (blobs < 3) return false;
    child.kill('SIGKILL');
    return true;
  };
  await once(child, 'close');
  fake.guard = undefined;
  t.same(readdirSync(out!), [], 'nothing beside the target');
  t.ok(readdirSync(work!).length > 0);
  t.equal((await sepia(...args)).code, 0);
  t.same(readdirSync(out!), ['image.tar']);
  t.same(readdirSync(work!), []);
});

t.test('a blob of a layout that is not what it is called is written again', async (t) => {
  const { fake, host } = await registry(t);
  const long = (): string => randomBytes(20_000).toString('hex');
  addImage(fake, 'one', [tarOf({ a: long() }), tarOf({ b: long() })]);
  const folder = t.testdir();
  const [layout, work] = ['layout', 'work'].map((name) => join(folder, name)) as [string, string];
  await convert(`${host}/app:one`, layout, work);
  const blobs = join(layout, 'blobs/sha256');
  const [largest] = readdirSync(blobs)
    .map((name) => join(blobs, name))
    .sort((one, other) => statSync(other).size - statSync(one).size);
  const right = readFileSync(largest!);
  const wrong = Buffer.from(right);
  wrong[right.length >> 1]! ^= 1;
  writeFileSync(largest!, wrong);
  rmSync(join(layout, 'index.json'));
  const { layers } = await convert(`${host}/app:one`, layout, work);
  t.same(layers.map((one) => one.isFromCache).sort(), [false, true]);
  t.ok(readFileSync(largest!).equals(right));
});

t.test('a disk that is full is named, and nothing is left', async (t) => {
  const { fake, host } = await registry(t);
  addImage(fake, 'one', [tarOf({ a: 'one' })]);
  const folder = t.testdir({ out: {} });
  const tar = join(folder, 'out/image.tar');
  const work = join(folder, 'work');
  let isFull = false;
  fake.guard = (request) => {
    if (request.url?.includes('/blobs/') === true && !isFull) symlinkSync('/dev/full', `${tar}.partial`);
    isFull ||= request.url?.includes('/blobs/') === true;
    return false;
  };
  await t.rejects(convert(`${host}/app:one`, tar, work), {
    code: 'DISK_FULL',
    message: `the disk of ${work}, or that of ${tar}, is full`,
  });
  t.ok(isFull);
  t.same(readdirSync(join(folder, 'out')), []);
  t.same(readdirSync(join(work, 'work')), []);
});
