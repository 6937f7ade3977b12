import { execFileSync } from 'node:child_process';
import { chownSync, existsSync, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isCoded } from '@sepia/base/errors';
import { imageConflicts, lowestConflict } from '@sepia/lazy/erofs/image-conflicts';
import { imageOf } from '@sepia/lazy/erofs/image-part';
import { unpackedTree } from '@sepia/lazy/erofs/layer-tree';
import { readIndexHead } from '@sepia/lazy/index/layer-index';
import { LayerIndexer } from '@sepia/lazy/index/layer-indexer';
import type { ByteString } from '@sepia/lazy/tar/byte-string';
import { cleanPath } from '@sepia/lazy/tar/tar-entry';
import { Unpacker, unpackProgram } from '@sepia/test-support/clients/unpack/unpack';
import { fc } from '@sepia/test-support/property';
import { SEED } from '@sepia/test-support/seeded';
import { must } from '@sepia/test-support/testbed';
import t from 'tap';
import { materialize } from '../../../../shared/lazy/test/support/erofs-reader.ts';
import { type TarPart, writeTar } from '../../../../shared/lazy/test/support/tar-writer.ts';

const FACTS = join(import.meta.dirname, '../support/tree-facts.py');
const CAPABILITY = Buffer.from('0100000200040000000000000000000000000000', 'hex');
const IMAGES = 250;
const DIRECTORY = 0o040000;

interface Facts {
  readonly kind: number;
  /** In ns: more digits than a double has. */
  mtime: string;
}

function whyNot(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root to mount';
  for (const program of ['/usr/bin/python3', '/dev/loop-control'])
    if (!existsSync(program)) return `needs ${program}`;
  return unpackProgram() === undefined ? 'needs test/support/src/clients/unpack/unpack.sh' : undefined;
}

const SPELLINGS = [
  (n: string) => n,
  (n: string) => `./${n}`,
  (n: string) => `/${n}/`,
  (n: string) => `q/../${n}`,
];
/** Few names, so that they meet. */
const path = fc
  .array(
    fc.oneof(
      { weight: 15, arbitrary: fc.constantFrom('a', 'b', 'c', 'd') },
      {
        weight: 1,
        arbitrary: fc.constantFrom('\xff\xfe', 'x'.repeat(120), 'n'.repeat(255), '.wh', '\x01\n'),
      },
    ),
    { minLength: 1, maxLength: 3 },
  )
  .map((names) => names.join('/'));
const spelled = fc
  .tuple(path, fc.integer({ min: 0, max: 7 }))
  .map(([name, way]) => (SPELLINGS[way] ?? SPELLINGS[0]!)(name));
const whiteout = fc.tuple(path, fc.boolean()).map(([name, isOpaque]) => {
  const at = name.lastIndexOf('/') + 1;
  return name.slice(0, at) + (isOpaque ? '.wh..wh..opq' : `.wh.${name.slice(at)}`);
});
const attributes = fc.record({
  mode: fc.constantFrom(0o755, 0o644, 0o700, 0o4755, 0o2755, 0o1777),
  uid: fc.constantFrom(0, 0, 0, 1000, 3_000_000),
  gid: fc.constantFrom(0, 0, 5),
  mtimeSec: fc.constantFrom(0, 1_700_000_000, -5, 9_223_372_036, 9_999_999_999),
  mtimeNsec: fc.constantFrom(0, 1, 999_999_999),
});
const xattrs = fc
  .subarray(['user.a', 'user.overlay.opaque', 'trusted.overlay.redirect', 'system.none'], { maxLength: 2 })
  .map((names) => new Map(names.map((name) => [name, Buffer.from('y')])));
const named = { name: spelled };
const part: fc.Arbitrary<TarPart> = fc
  .tuple(
    attributes,
    fc.oneof(
      fc.record({ ...named, typeFlag: fc.constant('0'), payload: fc.uint8Array({ maxLength: 40 }), xattrs }),
      fc.record({
        ...named,
        typeFlag: fc.constant('0'),
        xattrs: fc.constant(new Map([['security.capability', CAPABILITY]])),
      }),
      fc.record({ ...named, typeFlag: fc.constant('5'), xattrs }),
      fc.record({ ...named, typeFlag: fc.constant('1'), linkName: path }),
      fc.record({
        ...named,
        typeFlag: fc.constant('2'),
        linkName: fc.constantFrom('a', '/b', '../c', '.', 'l'.repeat(300)),
      }),
      fc.record({
        ...named,
        typeFlag: fc.constantFrom('3', '4', '6'),
        devMajor: fc.constantFrom(1, 4095),
        devMinor: fc.constantFrom(3, 1_048_575),
      }),
      fc.record({ name: whiteout, typeFlag: fc.constant('0') }),
      fc.record({ name: fc.constantFrom('./', '..'), typeFlag: fc.constant('5') }),
    ),
  )
  .map(([facts, one]) => ({ ...facts, ...one }));
const image = fc.array(fc.array(part, { maxLength: 7 }).map(withTargets), { minLength: 1, maxLength: 3 });

/** Hard links mostly lead to a file before them, with its attributes: others are refused by either side. */
function withTargets(parts: readonly TarPart[]): TarPart[] {
  return parts.map((one, index) => {
    const file = parts
      .slice(0, index)
      .findLast(({ typeFlag, name }) => typeFlag === '0' && !name.includes('.wh.'));
    if (one.typeFlag !== '1' || file === undefined) return one;
    const { payload: _none, ...rest } = file;
    return { ...rest, name: one.name, typeFlag: '1', linkName: cleanPath(file.name as ByteString) };
  });
}

/** The layers' images, or why there are none. */
function imagesOf(tars: readonly Buffer[]): Buffer[] | string {
  try {
    const indexes = tars.map((tar) => {
      const indexer = new LayerIndexer();
      indexer.push(tar);
      return readIndexHead(indexer.end().bytes);
    });
    const images = indexes.map((index, at) => {
      const made = imageOf(index);
      return materialize({ ...made, inodes: 0 }, tars[at]!);
    });
    const trees = indexes.map(({ entries }) => unpackedTree(entries));
    const conflict = lowestConflict(indexes[0]?.entries ?? []) ?? imageConflicts(trees)[0];
    return conflict?.reason ?? images;
  } catch (error) {
    if (!isCoded(error, 'LAYER_NOT_LAZY')) throw error;
    return String(error.detail['reason']);
  }
}

/** What a container of these layers sees; `below`: from the bottom. */
async function seen(dir: string, below: readonly string[]): Promise<Record<string, Facts>> {
  const [top, at] = [join(dir, 'top'), join(dir, 'merged')];
  for (const folder of [top, at]) mkdirSync(folder, { recursive: true });
  const { uid, gid } = statSync(below.at(-1)!);
  chownSync(top, uid, gid);
  await must('mount', [
    '-t',
    'overlay',
    '-o',
    `lowerdir=${[...below, top].toReversed().join(':')}`,
    'overlay',
    at,
  ]);
  try {
    const text = execFileSync('python3', [FACTS, at], { encoding: 'utf8' });
    return JSON.parse(text) as Record<string, Facts>;
  } finally {
    await must('umount', [at]);
  }
}

/** Directories that no entry describes have the time at which they were made; images give them none. */
function withoutOwnTimes(tree: Record<string, Facts>, sinceNs: bigint): Record<string, Facts> {
  const nowNs = BigInt(Date.now() + 1) * 1_000_000n;
  const isOwn = (ns: bigint): boolean => ns === 0n || (ns >= sinceNs && ns <= nowNs);
  for (const one of Object.values(tree))
    if (one.kind === DIRECTORY && isOwn(BigInt(one.mtime))) one.mtime = '0';
  return tree;
}

t.test(
  'a container sees what containerd would have unpacked: random images',
  { skip: whyNot() ?? false, timeout: 600_000 },
  async (t) => {
    const dir = mkdtempSync('/tmp/sepia-unpack-');
    await must('mount', ['-t', 'tmpfs', '-o', 'mode=0755', 'tmpfs', dir]);
    const unpacker = new Unpacker();
    t.teardown(async () => {
      unpacker.stop();
      // With what a run that failed left mounted in it.
      await must('umount', ['-R', dir]);
      rmSync(dir, { recursive: true });
    });
    const seed = 20_260 + SEED;
    const sinceNs = BigInt(Date.now()) * 1_000_000n;
    const said = { same: 0, refused: 0, unpackable: 0 };
    for (const [number, layers] of fc.sample(image, { numRuns: IMAGES, seed }).entries()) {
      const tars = layers.map((parts) => writeTar(parts));
      const images = imagesOf(tars);
      if (typeof images === 'string') {
        said.refused += 1;
        continue;
      }
      const own = join(dir, String(number));
      const unpacked = await unpackedTo(unpacker, own, tars);
      // Whiteouts of what the same layer has, for example: containerd ends such a pull.
      if (unpacked === undefined) {
        said.unpackable += 1;
        continue;
      }
      const mounted = await mountedAt(own, images);
      const found = withoutOwnTimes(await seen(join(own, 'lazy'), mounted), sinceNs);
      const expected = withoutOwnTimes(await seen(join(own, 'ordinary'), unpacked), sinceNs);
      for (const at of mounted) await must('umount', [at]);
      rmSync(own, { recursive: true });
      said.same += 1;
      t.strictSame(found, expected, `image ${number}: ${Object.keys(expected).length} paths`);
    }
    t.comment(JSON.stringify(said));
    t.ok(said.same > IMAGES / 8, `${said.same} images were compared`);
  },
);

/** Folders of the layers, from the bottom; undefined where containerd does not unpack them. */
async function unpackedTo(
  unpacker: Unpacker,
  dir: string,
  tars: readonly Buffer[],
): Promise<string[] | undefined> {
  const folders: string[] = [];
  for (const [index, tar] of tars.entries()) {
    const folder = join(dir, `unpacked-${index}`);
    mkdirSync(folder, { recursive: true, mode: 0o755 });
    writeFileSync(join(dir, 'layer.tar'), tar);
    const refusal = await unpacker.unpack(join(dir, 'layer.tar'), folder, folders.toReversed());
    if (refusal !== undefined) return undefined;
    folders.push(folder);
  }
  return folders;
}

async function mountedAt(dir: string, images: readonly Buffer[]): Promise<string[]> {
  const folders = images.map((_image, index) => join(dir, `mounted-${index}`));
  for (const [index, folder] of folders.entries()) {
    mkdirSync(folder);
    writeFileSync(`${folder}.erofs`, images[index]!);
    await must('mount', ['-t', 'erofs', '-o', 'ro,loop', `${folder}.erofs`, folder]);
  }
  return folders;
}
