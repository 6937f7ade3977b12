import { readFile } from 'node:fs/promises';
import { systemCode } from '@sepia/base/errors';

/** A running container and how many of its layers are mounted from a snapshotter of ours. */
export interface LazyContainer {
  /** `namespace/id`, as containerd names it. */
  readonly name: string;
  readonly layers: number;
}

/** What tells our mounts from others. */
interface Where {
  /** Folder of layer content (door 1). */
  readonly contentCache: string;
  /** File behind a loop device, or undefined. */
  readonly fileOf: (device: string) => string | undefined;
}

interface Mount {
  readonly target: string;
  readonly type: string;
  readonly source: string;
  readonly options: string;
}

/** How containerd names a container's root: `…/io.containerd.runtime.v2.task/NAMESPACE/ID/rootfs`. */
const ROOT = /\/io\.containerd\.runtime\.v2\.task\/([^/]+\/[^/]+)\/rootfs$/;

/**
 * Containers that read layers of ours, by the lines of `/proc/self/mountinfo`. A layer counts too where its link leads to
 * a whole file by now: what was mounted before reads through the daemon all the same.
 */
export function lazyContainers(mountinfo: string, where: Where): LazyContainer[] {
  const mounts = mountinfo.split('\n').flatMap(parse);
  const daemons = mounts.filter(({ type, source }) => type === 'fuse' && source === 'sepia');
  const folders = [where.contentCache, ...daemons.map(({ target }) => target)];
  const isOurs = ({ type, source }: Mount): boolean => {
    const file = where.fileOf(source) ?? source;
    return type === 'erofs' && folders.some((folder) => file.startsWith(`${folder}/`));
  };
  const ours = new Set(mounts.filter(isOurs).map(({ target }) => target));
  return mounts.flatMap(({ target, type, options }) => {
    const name = ROOT.exec(target)?.[1];
    const lower = /(?:^|,)lowerdir=([^,]*)/.exec(options)?.[1] ?? '';
    const layers = lower.split(':').filter((one) => ours.has(one)).length;
    return name === undefined || type !== 'overlay' || layers === 0 ? [] : [{ name, layers }];
  });
}

/** Those of this machine. */
export async function lazyContainersHere(contentCache: string): Promise<LazyContainer[]> {
  const mountinfo = await readFile('/proc/self/mountinfo', 'utf8');
  const files = new Map<string, string>();
  for (const [, device] of mountinfo.matchAll(/ - erofs \/dev\/(loop\d+) /g)) {
    const file = await backingFile(device!);
    if (file !== undefined) files.set(`/dev/${device}`, file);
  }
  return lazyContainers(mountinfo, { contentCache, fileOf: (device) => files.get(device) });
}

async function backingFile(device: string): Promise<string | undefined> {
  try {
    return (await readFile(`/sys/block/${device}/loop/backing_file`, 'utf8')).trim();
  } catch (error) {
    // Its mount ended in the meantime.
    if (systemCode(error) !== 'ENOENT') throw error;
    return undefined;
  }
}

/** `36 27 0:41 / TARGET OPTIONS [tags] - TYPE SOURCE OPTIONS` */
function parse(line: string): Mount[] {
  const [before, after] = line.split(' - ');
  const target = before?.split(' ')[4];
  const [type, source, options] = after?.split(' ') ?? [];
  if (target === undefined || type === undefined || source === undefined) return [];
  return [{ target: unescaped(target), type, source: unescaped(source), options: unescaped(options ?? '') }];
}

/** Blanks and backslashes are octal in mountinfo. */
function unescaped(text: string): string {
  return text.replace(/\\([0-7]{3})/g, (_all, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  );
}
