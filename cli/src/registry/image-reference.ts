import { isDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { inOneSpelling } from '@sepia/base/host-port';
import { isRepositoryName, isTag } from '@sepia/base/names/repository';

/** `[host/]repository[:tag|@digest]` taken apart; without tag and digest the reference is `latest`. */
export interface ImageReference {
  /** Registry that the name begins with, if it does. */
  readonly host: string | undefined;
  readonly repository: string;
  /** Tag or digest. */
  readonly reference: string;
}

/** @throws {CodedError} `REQUEST_INVALID` */
export function parseImageReference(text: string): ImageReference {
  const at = text.indexOf('@');
  const digest = at === -1 ? undefined : text.slice(at + 1);
  const named = at === -1 ? text : text.slice(0, at);
  const colon = named.lastIndexOf(':');
  const hasTag = colon > named.lastIndexOf('/');
  const tag = hasTag ? named.slice(colon + 1) : undefined;
  const name = hasTag ? named.slice(0, colon) : named;
  const slash = name.indexOf('/');
  const first = slash === -1 ? '' : name.slice(0, slash);
  const isHost = first === 'localhost' || first.includes('.') || first.includes(':');
  const repository = isHost ? name.slice(slash + 1) : name;
  if (!isRepositoryName(repository)) throw invalid(text, `"${repository}" is not a repository name`);
  if (digest !== undefined && !isDigest(digest)) throw invalid(text, `"${digest}" is not a digest`);
  if (tag !== undefined && !isTag(tag)) throw invalid(text, `"${tag}" is not a tag`);
  return { host: isHost ? first : undefined, repository, reference: digest ?? tag ?? 'latest' };
}

/** True for a registry host of the loopback: `localhost:17300`, `127.0.0.1:17300`, `[::1]:17300`. */
export function isThisMachine(host: string): boolean {
  return /^(?:localhost|127\.\d+\.\d+\.\d+|\[::1\]):\d+$/.test(inOneSpelling(host));
}

function invalid(text: string, why: string): CodedError {
  return new CodedError('REQUEST_INVALID', {
    message: `${text}: ${why}; expected [HOST/]REPOSITORY[:TAG|@DIGEST]`,
  });
}
