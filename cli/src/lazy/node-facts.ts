import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { release, tmpdir } from 'node:os';
import { join } from 'node:path';
import { throwIfBug } from '@sepia/base/failure';
import { encodeErofs } from '@sepia/lazy/erofs/encode';
import { layerTree } from '@sepia/lazy/erofs/layer-tree';
import { byteStringOf } from '@sepia/lazy/tar/byte-string';
import { COMMAND_MS } from '../deadlines.ts';
import { type NodeFacts, parseVersion } from './door.ts';

/** Where containerd's config is by default. */
export const CONTAINERD_CONFIG = '/etc/containerd/config.toml';
/** More than a block: it lies where the content of layers does. */
const TRIAL_BYTES = Buffer.alloc(5_000, 'sepia');

/** Looks at this node: programs, kernel, containerd's effective config, and a mount that is tried, read and undone. */
export async function probeNode(config: string): Promise<NodeFacts> {
  const [containerd, mkfs, dump] = await Promise.all([
    output('containerd', ['--version']),
    output('mkfs.erofs', ['--help'], true),
    effectiveConfig(config),
  ]);
  const isRoot = process.getuid?.() === 0;
  if (isRoot) await output('modprobe', ['erofs']);
  const hasErofs = readFileSync('/proc/filesystems', 'utf8').split('\n').includes('\terofs');
  return {
    isRoot,
    hasFuse: existsSync('/dev/fuse'),
    hasErofs,
    kernel: parseVersion(release()),
    containerd: versionAfter(containerd, 'containerd'),
    mkfsTakesTar: mkfs?.includes('--tar'),
    config: dump,
    trialMount: isRoot && hasErofs ? await trialMount() : 'not tried',
  };
}

/** What `containerd config dump` says; undefined where containerd is not there or does not read its config. */
export async function effectiveConfig(config: string): Promise<string | undefined> {
  return await output('containerd', ['-c', config, 'config', 'dump']);
}

/** True if containerd shows layers of ours by what `containerd config dump` prints, at either door. */
export function isLazyConfig(dump: string | undefined): boolean {
  return /^\s*(?:layer_content_caches\s*=\s*\[\s*["']|snapshotter\s*=\s*["']sepia["'])/m.test(dump ?? '');
}

/** Why containerd would not take a config as it is meant: with our snapshotter at `socket`. Undefined: it does. */
export async function whyNotUnderstood(config: string, socket: string): Promise<string | undefined> {
  const dir = await mkdtemp(join(tmpdir(), 'sepia-config-'));
  try {
    await writeFile(join(dir, 'config.toml'), config);
    const dump = await output('containerd', ['-c', join(dir, 'config.toml'), 'config', 'dump']);
    if (dump === undefined) return 'containerd does not read the result';
    const isUsed = /^\s*snapshotter = ["']sepia["']/m.test(dump) && dump.includes(socket);
    return isUsed ? undefined : 'containerd does not see our snapshotter in the result';
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}

/** Mounts an image of our own as layers are mounted here, and reads the file in it. */
async function trialMount(): Promise<'ok' | string> {
  const dir = await mkdtemp(join(tmpdir(), 'sepia-trial-'));
  const [image, tree] = [join(dir, 'image'), join(dir, 'tree')];
  await mkdir(tree);
  await writeFile(image, trialImage());
  const unmounted = await failure('mount', ['-t', 'erofs', '-o', 'ro', image, tree]);
  const unread = unmounted === undefined ? await whyNotRead(join(tree, 'file')) : undefined;
  const stuck = unmounted === undefined ? await failure('umount', ['-l', tree]) : undefined;
  if (stuck !== undefined) return `${stuck}; ${tree} stays`;
  await rm(dir, { recursive: true, force: true });
  return unmounted ?? unread ?? 'ok';
}

function trialImage(): Buffer {
  const path = byteStringOf('file');
  const owner = { mode: 0o400, uid: 0, gid: 0, mtimeSec: 0, mtimeNsec: 0, devMajor: 0, devMinor: 0 };
  const content = { offset: 0, size: TRIAL_BYTES.length };
  const none = { link: byteStringOf(''), xattrs: new Map() };
  const tree = layerTree([{ type: 'file', path, ...none, ...owner, ...content }]);
  const { meta, sizeBytes, extents } = encodeErofs(tree, { uuid: new Uint8Array(16) });
  const image = Buffer.alloc(sizeBytes);
  meta.copy(image);
  TRIAL_BYTES.copy(image, extents.image[0]!);
  return image;
}

async function whyNotRead(path: string): Promise<string | undefined> {
  try {
    return (await readFile(path)).equals(TRIAL_BYTES) ? undefined : 'what is read of it is wrong';
  } catch (error) {
    throwIfBug(error);
    return `it cannot be read: ${(error as Error).message}`;
  }
}

/** The version in the words after a program's name: paths before it have numbers too. */
function versionAfter(text: string | undefined, name: string): NodeFacts['containerd'] {
  if (text === undefined) return undefined;
  return parseVersion(text.slice(text.indexOf(name) + name.length).replace(/\S*\/\S*/g, ''));
}

/** What a program printed; undefined where it is not there or fails (unless that `mayFail`). */
async function output(
  command: string,
  args: readonly string[],
  mayFail = false,
): Promise<string | undefined> {
  return await new Promise((settle) => {
    const options = { timeout: COMMAND_MS, maxBuffer: 4 * 1024 * 1024, env: withSbin() };
    execFile(command, [...args], options, (error, stdout, stderr) =>
      settle(error === null || (mayFail && error.code !== 'ENOENT') ? stdout + stderr : undefined),
    );
  });
}

async function failure(command: string, args: readonly string[]): Promise<string | undefined> {
  return await new Promise((settle) => {
    execFile(command, [...args], { timeout: COMMAND_MS, env: withSbin() }, (error, _stdout, stderr) =>
      settle(error === null ? undefined : stderr.trim() || error.message),
    );
  });
}

function withSbin(): NodeJS.ProcessEnv {
  return { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
}
