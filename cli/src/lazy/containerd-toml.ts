import { CodedError } from '@sepia/base/errors';
import { ownLines } from './toml-lines.ts';

/** First line of a file that we wrote: nothing else is replaced or taken away. */
export const OUR_MARK = '# Written by "sepia configure containerd --lazy"; "--restore" takes it away.';
/** First line of a `hosts.toml` that we wrote where there was none. */
export const HOSTS_MARK = '# Written by "sepia configure containerd"; "--restore" takes it away.';

/** What containerd reads beside its own config: deep-merged, lists are added to. */
export function dropIn(contentCache: string): string {
  return `${OUR_MARK}
version = 3

[plugins.'io.containerd.snapshotter.v1.erofs']
  layer_content_caches = [${quoted(contentCache)}]

[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'erofs'
`;
}

/**
 * A containerd config that imports `pattern`: unchanged where it does already. Only the top-level key `imports` is
 * touched, and only where it is a list on one line; all else stays byte for byte.
 * @throws {CodedError} `CONFIG_INVALID` where that cannot be done safely
 */
export function withImport(config: string, pattern: string): string {
  const lines = config.split('\n');
  const own = ownLines(lines);
  const firstTable = own.findIndex((line) => /^\s*\[/.test(line));
  const top = firstTable < 0 ? lines.length : firstTable;
  const at = own.findIndex((line, index) => index < top && /^\s*imports\s*=/.test(line));
  if (at < 0) {
    const version = own.findIndex((line, index) => index < top && /^\s*version\s*=/.test(line));
    const line = `imports = [${quoted(pattern)}]`;
    return [...lines.slice(0, version + 1), line, ...lines.slice(version + 1)].join('\n');
  }
  const [, before, items, after] = /^(\s*imports\s*=\s*\[)([^\]]*)(\].*)$/.exec(lines[at]!) ?? [];
  if (before === undefined || items === undefined || after === undefined)
    throw new CodedError('CONFIG_INVALID', {
      message: `imports is not a list on one line; add ${quoted(pattern)} to it by hand`,
      detail: { line: at + 1 },
    });
  if (items.includes(quoted(pattern)) || items.includes(`"${pattern}"`)) return config;
  const list =
    items.trim() === '' ? quoted(pattern) : `${items.trim().replace(/,$/, '')}, ${quoted(pattern)}`;
  lines[at] = `${before}${list}${after}`;
  return lines.join('\n');
}

/** A TOML literal string. @throws {CodedError} `CONFIG_INVALID` for a path with a quote or a line break */
export function quoted(path: string): string {
  if (/['\n\r]/.test(path))
    throw new CodedError('CONFIG_INVALID', {
      message: `${JSON.stringify(path)} cannot be written in containerd's config`,
    });
  return `'${path}'`;
}
