import { MEMBER_ID } from '@sepia/base/config/member-keys';
import { isBaseUrl } from '@sepia/base/config/units';
import { CodedError } from '@sepia/base/errors';

/** An upstream as the command line gives it. */
export interface UpstreamOption {
  readonly name: string;
  readonly url: string | undefined;
  readonly hosts: readonly string[];
  readonly mode: 'none' | 'pull-through';
}

/** The upstream of a cluster that fronts no registry. */
export const LOCAL_UPSTREAM: UpstreamOption = { name: 'local', url: undefined, hosts: [], mode: 'none' };

/** Reads `NAME=URL[,HOST…]`. @throws {CodedError} `CONFIG_INVALID` */
export function parseUpstream(text: string): UpstreamOption {
  const found = /^([^=,]+)=([^,]+)((?:,[^,]+)*)$/.exec(text.trim());
  const [, name = '', url = '', rest = ''] = found ?? [];
  if (found === null) throw invalid(text, 'is not NAME=URL[,HOST…], e.g. harbor=https://harbor.example.com');
  if (!MEMBER_ID.test(name))
    throw invalid(text, `"${name}" is not a name: lower-case letters, digits, dots, dashes`);
  if (!isBaseUrl(url)) throw invalid(text, `"${url}" is not an http(s) URL without path`);
  const hosts = rest.split(',').filter((host) => host !== '');
  const bad = hosts.find((host) => !/^[a-zA-Z0-9.-]+(?::\d{1,5})?$/.test(host));
  if (bad !== undefined) throw invalid(text, `"${bad}" is not host or host:port`);
  return { name, url: new URL(url).origin, hosts, mode: 'pull-through' };
}

function invalid(text: string, why: string): CodedError {
  return new CodedError('CONFIG_INVALID', { message: `--upstream ${text}: ${why}` });
}
