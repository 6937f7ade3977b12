import { CodedError } from '../errors.ts';

/**
 * Name of a repository, OCI `<name>` (distribution-spec, "Pulling manifests"): lower case, parts between slashes, at most 255
 * characters.
 */
export type RepositoryName = string & { readonly __brand: 'RepositoryName' };
/** A tag (distribution-spec, "Pulling manifests"): `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`; case matters. */
export type Tag = string & { readonly __brand: 'Tag' };

const PART = '[a-z0-9]+(?:(?:\\.|_|__|-+)[a-z0-9]+)*';
const NAME = new RegExp(`^${PART}(?:/${PART})*$`);
const TAG = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;
const MAX_NAME = 255;

/** True for a name of a repository (OCI distribution, "Pulling manifests"), of at most the length that is taken. */
export function isRepositoryName(text: string): text is RepositoryName {
  return text.length <= MAX_NAME && NAME.test(text);
}

/** A text as the repository name that it is, unchanged. @throws {CodedError} `NAME_INVALID`, with its first 300 characters as `found` */
export function parseRepositoryName(text: string): RepositoryName {
  if (!isRepositoryName(text))
    throw new CodedError('NAME_INVALID', { detail: { found: text.slice(0, 300) } });
  return text;
}

/** True for a tag: letters, digits, `_`, `.` and `-`, at most 128 characters, not beginning with `.` or `-`. Never true for a digest. */
export function isTag(text: string): text is Tag {
  return TAG.test(text);
}

/** A text as the tag that it is, unchanged. @throws {CodedError} `TAG_INVALID`, with its first 200 characters as `found` */
export function parseTag(text: string): Tag {
  if (!isTag(text)) throw new CodedError('TAG_INVALID', { detail: { found: text.slice(0, 200) } });
  return text;
}
