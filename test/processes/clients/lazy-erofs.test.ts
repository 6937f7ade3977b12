import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { encodeErofs } from '@sepia/lazy/erofs/encode';
import { layerTree } from '@sepia/lazy/erofs/layer-tree';
import { layerEntry } from '@sepia/lazy/index/layer-entry';
import { encodeBootstrap, flatOffsets } from '@sepia/lazy/rafs/encode-bootstrap';
import { tarEntries } from '@sepia/lazy/tar/tar-reader';
import { fc } from '@sepia/test-support/property';
import { must, run } from '@sepia/test-support/testbed';
import t, { type Test } from 'tap';
import { noise } from '../../../shared/lazy/test/support/arbitrary-gzip.ts';
import { arbitraryParts } from '../../../shared/lazy/test/support/arbitrary-tar.ts';
import { builtRafs, deviceOf, ownBootstrap } from '../../../shared/lazy/test/support/build-rafs.ts';
import { materialize } from '../../../shared/lazy/test/support/erofs-reader.ts';
import { type TarPart, writeTar } from '../../../shared/lazy/test/support/tar-writer.ts';

const FACTS = join(import.meta.dirname, 'support/tree-facts.py');
const CAPABILITY = Buffer.from('0100000200040000000000000000000000000000', 'hex');
const TREES = 25;

function whyNot(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root to mount';
  for (const program of ['/usr/bin/python3', '/dev/loop-control', '/bin/tar']) {
    if (!existsSync(program)) return `needs ${program}`;
  }
  return undefined;
}

/** A layer whose paths do not contradict each other, so that GNU tar unpacks what it says. */
function consistent(parts: readonly TarPart[]): TarPart[] {
  const kinds = new Map<string, string>();
  const kept: TarPart[] = [];
  for (const part of parts) {
    const ancestors = part.name
      .split('/')
      .slice(0, -1)
      .map((_one, index, all) => all.slice(0, index + 1).join('/'));
    const isDirectory = part.typeFlag === '5';
    if (kinds.has(part.name) && !(isDirectory && kinds.get(part.name) === '5')) continue;
    if (ancestors.some((path) => (kinds.get(path) ?? '5') !== '5') || part.name.includes('.wh.')) continue;
    const targets = [...kinds].filter(([, kind]) => kind === '0').map(([path]) => path);
    if (part.typeFlag === '1' && targets.length === 0) continue;
    // Whoever extracts makes parents: their attributes are said here, so that both sides agree.
    for (const path of ancestors) {
      if (!kinds.has(path)) kept.push({ name: path, typeFlag: '5', mode: 0o755 });
      kinds.set(path, '5');
    }
    kinds.set(part.name, part.typeFlag ?? '0');
    const xattrs = new Map(
      [...(part.xattrs ?? [])].filter(([name]) => part.typeFlag === '0' || !name.startsWith('user.')),
    );
    if (xattrs.has('security.capability')) xattrs.set('security.capability', CAPABILITY);
    if (part.typeFlag !== '0' && part.typeFlag !== '5') xattrs.clear();
    const linkName = part.typeFlag === '1' ? targets[kept.length % targets.length]! : part.linkName!;
    kept.push({
      ...part,
      xattrs,
      linkName: linkName === '' ? 'x' : linkName,
      mtimeSec: Math.abs(part.mtimeSec ?? 0),
    });
  }
  // A link whose header would change its file makes a layer ordinary.
  const files = new Map(kept.map(({ name, mode, uid, gid }) => [name, { mode, uid, gid }]));
  const linked = new Set(kept.flatMap((part) => (part.typeFlag === '1' ? [part.linkName] : [])));
  return kept.map((part) => {
    if (part.typeFlag === '1') return { ...part, ...files.get(part.linkName!), xattrs: new Map() };
    const xattrs = new Map(part.xattrs);
    if (linked.has(part.name)) xattrs.delete('security.capability');
    return { ...part, xattrs };
  });
}

t.test(
  'the kernel shows what tar unpacks: random layers',
  { skip: whyNot() ?? false, timeout: 600_000 },
  async (t) => {
    const dir = mkdtempSync('/tmp/sepia-erofs-');
    mkdirSync(join(dir, 'unpacked'));
    mkdirSync(join(dir, 'mounted'));
    await must('mount', ['-t', 'tmpfs', '-o', 'mode=0755', 'tmpfs', join(dir, 'unpacked')]);
    t.teardown(async () => {
      await must('umount', [join(dir, 'unpacked')]);
      rmSync(dir, { recursive: true });
    });
    const layers = fc.sample(arbitraryParts(60), {
      numRuns: TREES,
      seed: Number(process.env['SEED'] ?? 20_261),
    });
    let nodes = 0;
    for (const [index, parts] of [fixedLayer(), ...layers].entries()) {
      const tar = writeTar([{ name: './', typeFlag: '5', mode: 0o755 }, ...consistent(parts)]);
      const image = encodeErofs(layerTree(tarEntries(tar).map(layerEntry)), { uuid: noise(index, 16) });
      writeFileSync(join(dir, 'layer.erofs'), materialize(image, tar));
      writeFileSync(join(dir, 'layer.tar'), tar);
      const root = join(dir, 'unpacked', String(index));
      mkdirSync(root);
      const unpack =
        '--numeric-owner --same-owner --xattrs --xattrs-include=* --delay-directory-restore'.split(' ');
      await must('tar', ['-xpf', join(dir, 'layer.tar'), '-C', root, ...unpack]);
      const check = await run('fsck.erofs', [join(dir, 'layer.erofs')]);
      if (check.stderr.includes('ENOENT')) t.comment('no fsck.erofs here');
      else t.equal(check.code, 0, `fsck.erofs of layer ${index}: ${check.stdout}${check.stderr}`);
      await must('mount', ['-t', 'erofs', '-o', 'ro,loop', join(dir, 'layer.erofs'), join(dir, 'mounted')]);
      const found = facts(join(dir, 'mounted'));
      await must('umount', [join(dir, 'mounted')]);
      const expected = facts(root);
      t.strictSame(found, expected, `layer ${index}: ${Object.keys(expected).length} paths`);
      if (index % 3 === 0) await isShownAsNydus(t, dir, index, tar, expected);
      nodes += Object.keys(expected).length;
    }
    t.ok(nodes > 300, `${nodes} paths were compared`);
  },
);

/** The kernel shows the same tree of a layer's Nydus bootstrap; each has files of its own, for loop devices remember. */
async function isShownAsNydus(
  t: Test,
  dir: string,
  index: number,
  tar: Buffer,
  expected: object,
): Promise<void> {
  const path = join(dir, `nydus-${index}`);
  const { code, text } = await flatNydus(path, tar);
  t.equal(code, 0, `fsck.erofs of the bootstrap of layer ${index}: ${text}`);
  await must('mount', ['-t', 'erofs', '-o', 'ro,loop', `${path}.flat`, join(dir, 'mounted')]);
  const shown = facts(join(dir, 'mounted'));
  await must('umount', [join(dir, 'mounted')]);
  t.strictSame(shown, expected, `layer ${index} as Nydus`);
}

/**
 * Writes a layer's Nydus bootstrap, and behind it, where its device slot says, the chunks of its data blob as they are
 * uncompressed: what the kernel mounts as one flat device. @returns what fsck.erofs says of it
 */
async function flatNydus(path: string, tar: Buffer): Promise<{ code: number; text: string }> {
  const made = await builtRafs(tar, { chunkBytes: 65_536 });
  if (typeof made === 'string') throw new Error(made);
  const bootstrap = ownBootstrap(made.built);
  const bytes = encodeBootstrap(bootstrap);
  const [blob] = bootstrap.blobs;
  const device = blob === undefined ? Buffer.alloc(0) : deviceOf(blob, made.blob, bootstrap);
  const [offset = bytes.length] = flatOffsets(bootstrap.blobs, bytes.length);
  writeFileSync(`${path}.flat`, Buffer.concat([bytes, Buffer.alloc(offset - bytes.length), device]));
  writeFileSync(`${path}.boot`, bytes);
  writeFileSync(`${path}.device`, device);
  const devices = blob === undefined ? [] : [`--device=${path}.device`];
  const check = await run('fsck.erofs', [...devices, `${path}.boot`]);
  const isMissing = check.stderr.includes('ENOENT');
  return { code: isMissing ? 0 : check.code, text: `${check.stdout}${check.stderr}` };
}

function facts(root: string): Record<string, object> {
  const text = execFileSync('python3', [FACTS, root], { maxBuffer: 256 * 1024 * 1024, encoding: 'utf8' });
  return JSON.parse(text) as Record<string, object>;
}

/** What random layers reach too seldom. */
function fixedLayer(): TarPart[] {
  const file = { typeFlag: '0', linkName: '' };
  return [
    ...Array.from({ length: 5000 }, (_none, index) => ({
      ...file,
      name: `many/${'x'.repeat(index % 200)}-${index}`,
    })),
    { ...file, name: 'big', payload: noise(3, 5_000_001), mode: 0o4755, uid: 3_000_000, gid: 3_000_001 },
    { name: 'again', typeFlag: '1', linkName: 'big' },
    { ...file, name: 'capable', xattrs: new Map([['security.capability', CAPABILITY]]), mode: 0o755 },
    { name: 'far', typeFlag: '2', linkName: `${'t'.repeat(200)}/`.repeat(20) },
    {
      ...file,
      name: Array.from({ length: 15 }, () => 'n'.repeat(250)).join('/'),
      payload: Buffer.from('deep'),
    },
  ];
}
