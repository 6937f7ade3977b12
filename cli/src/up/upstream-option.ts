import { MEMBER_ID } from '@sepia/base/config/member-keys';
import { isRegistryUrl, withoutAccount } from '@sepia/base/config/units';
import { CodedError } from '@sepia/base/errors';
import type { UpstreamMode } from '@sepia/cluster/write-back';

/** An upstream as the command line gives it. */
export interface UpstreamOption {
  readonly name: string;
  readonly url: string | undefined;
  readonly hosts: readonly string[];
  readonly mode: UpstreamMode;
}

/** A host name or address, an IPv6 one in brackets, with or without port. */
const HOST = /^(?:[a-zA-Z0-9.-]+|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?$/;

/** The upstream of a cluster that fronts no registry. */
export const LOCAL_UPSTREAM: UpstreamOption = { name: 'local', url: undefined, hosts: [], mode: 'none' };

/** Reads `NAME=URL[,HOST…]`, or `NAME=none[,HOST…]` for one that fronts no registry. @throws {CodedError} `CONFIG_INVALID` */
export function parseUpstream(text: string): UpstreamOption {
  const found = /^([^=,]+)=([^,]+)((?:,[^,]+)*)$/.exec(text.trim());
  const [, name = '', url = '', rest = ''] = found ?? [];
  if (found === null) throw invalid(text, 'is not NAME=URL[,HOST…], e.g. harbor=https://harbor.example.com');
  if (!MEMBER_ID.test(name))
    throw invalid(text, `"${name}" is not a name: lower-case letters, digits, dots, dashes`);
  const isNone = url === 'none';
  if (!isNone && !isRegistryUrl(url))
    throw invalid(
      text,
      `"${withoutAccount(url)}" is not an http(s) URL (which may have a path before /v2/), nor none`,
    );
  const hosts = rest.split(',').filter((host) => host !== '');
  const bad = hosts.find((host) => !HOST.test(host));
  if (bad !== undefined) throw invalid(text, `"${bad}" is not host or host:port`);
  if (isNone) return { name, url: undefined, hosts, mode: 'none' };
  const { origin, pathname } = new URL(url);
  return { name, url: `${origin}${pathname.replace(/\/+$/, '')}`, hosts, mode: 'pull-through' };
}

/** Those that are named take pushes too, which are brought to their registry. @throws {CodedError} `CONFIG_INVALID` */
export function withWriteBack(
  given: readonly UpstreamOption[],
  named: readonly string[],
): readonly UpstreamOption[] {
  for (const name of named)
    if (!given.some((one) => one.name === name && one.url !== undefined))
      throw new CodedError('CONFIG_INVALID', {
        message: `--write-back ${name}: is no upstream with a registry; name it by --upstream ${name}=URL as well`,
      });
  return given.map((one) => (named.includes(one.name) ? { ...one, mode: 'write-back' } : one));
}

/**
 * Upstreams of a cluster: those of the command line, the first of them the default, then what its document has beside
 * them (`kept`); neither: {@link LOCAL_UPSTREAM} alone. Only who edits the document takes one away.
 */
export function upstreamsFor(
  given: readonly UpstreamOption[],
  kept: readonly UpstreamOption[],
): readonly UpstreamOption[] {
  const names = new Set(given.map(({ name }) => name));
  const own = given.map((one) => {
    const before = kept.find(({ name }) => name === one.name);
    // Pushes may wait: only who edits the document ends that.
    return one.mode === 'pull-through' && before?.mode === 'write-back' ? { ...one, mode: before.mode } : one;
  });
  const all = [...own, ...kept.filter(({ name }) => !names.has(name))];
  return all.length === 0 ? [LOCAL_UPSTREAM] : all;
}

function invalid(text: string, why: string): CodedError {
  return new CodedError('CONFIG_INVALID', { message: `--upstream ${withoutAccount(text)}: ${why}` });
}
