import { CodedError } from '@sepia/base/errors';
import { OUR_MARK, quoted } from './containerd-toml.ts';
import type { Version } from './door.ts';
import { ownLines } from './toml-lines.ts';

/** Name of our snapshotter in containerd's config. */
const NAME = 'sepia';

interface Options {
  /** Where the snapshotter's `snapshots-socket` is. */
  readonly socket: string;
  /** The snapshotter's data folder: the kubelet is told to measure the disk that it is on. */
  readonly data?: string | undefined;
  readonly containerd: Version;
}

type Key = readonly [table: readonly string[], key: string, value: string];

/**
 * A containerd config with our snapshotter behind `proxy_plugins`, used by its CRI plugin. Before 2.0 a file that is
 * imported replaces whole plugins, so the config itself is changed: keys in their tables, all else byte for byte.
 * `undefined`: there is none yet.
 * @throws {CodedError} `CONFIG_INVALID` for a config of version 1
 */
export function withSnapshotter(config: string | undefined, options: Options): string {
  const isEmpty = config === undefined || config.trim() === '';
  const own = `${OUR_MARK}\nversion = ${options.containerd[0] < 2 ? 2 : 3}\n`;
  const text = isEmpty ? `${config ?? ''}${own}` : config;
  return keysFor(versionOf(text), options).reduce(withKey, text);
}

/** True where a config names the disk of our snapshotter, which the kubelet then measures. */
export function namesDisk(config: string): boolean {
  return placeOf(config.split('\n'), ['proxy_plugins', NAME, 'exports'], 'root').line >= 0;
}

function keysFor(version: number, { socket, data, containerd }: Options): Key[] {
  const isTwo = containerd[0] >= 2;
  // 2.x reads a config of version 2 and brings its keys over, but not these two (seen with 2.4.2): they stand in both places.
  const tables = [
    ...(version === 2 ? [['plugins', 'io.containerd.grpc.v1.cri', 'containerd']] : []),
    ...(version > 2 || isTwo ? [['plugins', 'io.containerd.cri.v1.images']] : []),
  ];
  const proxy = ['proxy_plugins', NAME];
  return [
    ...tables.flatMap((cri): Key[] => [
      [cri, 'snapshotter', quoted(NAME)],
      // Without them a snapshotter is not told which layer is meant.
      [cri, 'disable_snapshot_annotations', 'false'],
    ]),
    [proxy, 'type', quoted('snapshot')],
    [proxy, 'address', quoted(socket)],
    ...(isTwo
      ? [[[...proxy, 'exports'], 'enable_remote_snapshot_annotations', quoted('true')] as const]
      : []),
    ...(data === undefined ? [] : [[[...proxy, 'exports'], 'root', quoted(data)] as const]),
  ];
}

function versionOf(text: string): number {
  const lines = ownLines(text.split('\n'));
  const firstTable = lines.findIndex((line) => tableOf(line) !== undefined);
  const top = firstTable < 0 ? lines : lines.slice(0, firstTable);
  const found = top.map((line) => /^\s*version\s*=\s*(\d+)/.exec(line)?.[1]).find((one) => one !== undefined);
  const version = Number(found ?? 1);
  // What later ones mean is compared with what containerd reads.
  if (version >= 2) return version;
  throw new CodedError('CONFIG_INVALID', {
    message: `containerd's config is of version ${version}; make it one of version 2 (containerd config migrate), then run this again`,
  });
}

function withKey(text: string, [table, key, value]: Key): string {
  const lines = text.split('\n');
  const { at, line } = placeOf(lines, table, key);
  if (at < 0) {
    const gap = text === '' || text.endsWith('\n') ? '' : '\n';
    return `${text}${gap}\n[${table.map(keyText).join('.')}]\n  ${key} = ${value}\n`;
  }
  const indent = /^\s*/.exec(lines[at]!)?.[0] ?? '';
  const wanted = `${indent}  ${key} = ${value}`;
  if (line < 0) return [...lines.slice(0, at + 1), wanted, ...lines.slice(at + 1)].join('\n');
  if (new RegExp(`^\\s*${key}\\s*=\\s*(['"]?)${plain(value)}\\1\\s*$`).test(lines[line]!)) return text;
  lines[line] = wanted;
  return lines.join('\n');
}

/** The lines of a table's name and of a key in it; -1 where there is none. */
function placeOf(
  all: readonly string[],
  table: readonly string[],
  key: string,
): { at: number; line: number } {
  const lines = ownLines(all);
  const at = lines.findIndex((line) => {
    const found = tableOf(line);
    return found?.length === table.length && found.every((part, index) => part === table[index]);
  });
  if (at < 0) return { at, line: -1 };
  const next = lines.findIndex((line, index) => index > at && tableOf(line) !== undefined);
  const end = next < 0 ? lines.length : next;
  const isKey = new RegExp(`^\\s*${key}\\s*=`);
  return { at, line: lines.findIndex((one, index) => index > at && index < end && isKey.test(one)) };
}

/**
 * The parts of a table's name in a line like `[a."b.c"]`, none where it begins one of a list of tables (`[[a.b]]`: the keys behind
 * it are that one's); undefined for any other line.
 */
function tableOf(line: string): string[] | undefined {
  if (/^\s*\[\[[^[\]]+\]\]\s*(?:#.*)?\r?$/.test(line)) return [];
  const inner = /^\s*\[([^[\]]+)\]\s*(?:#.*)?\r?$/.exec(line)?.[1];
  if (inner === undefined) return undefined;
  const parts = inner.match(/"[^"]*"|'[^']*'|[^."'\s]+/g) ?? [];
  return parts.map((part) => part.replace(/^(["'])(.*)\1$/, '$2'));
}

function keyText(part: string): string {
  return /^[\w-]+$/.test(part) ? part : `"${part}"`;
}

/** A value without its quotes, for a pattern. */
function plain(value: string): string {
  return value.replace(/^'(.*)'$/, '$1').replace(/[.*+?^${}()|[\]\\/]/g, '\\$&');
}
