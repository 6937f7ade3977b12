import { type Digest, parseDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { parseTag, type Tag } from '@sepia/base/names/repository';

/** A manifest is asked for by tag or by digest. */
export type Reference =
  | { readonly kind: 'tag'; readonly tag: Tag }
  | { readonly kind: 'digest'; readonly digest: Digest };

/** The routes of OCI distribution 1.1 below `/v2`; `name` is the unchecked `<name>`. */
export type RegistryRoute =
  | { readonly type: 'base' }
  | { readonly type: 'catalog' }
  | { readonly type: 'manifest'; readonly name: string; readonly reference: Reference }
  | { readonly type: 'blob'; readonly name: string; readonly digest: Digest }
  | { readonly type: 'uploads'; readonly name: string }
  | { readonly type: 'upload'; readonly name: string; readonly uploadId: string }
  | { readonly type: 'tags'; readonly name: string }
  | { readonly type: 'referrers'; readonly name: string; readonly digest: Digest };

/**
 * Parses the decoded path of a registry request.
 * @throws {CodedError} `ROUTE_UNKNOWN`, `DIGEST_SYNTAX`, `TAG_INVALID`
 */
export function parseRegistryPath(path: string): RegistryRoute {
  if (path === '/v2' || path === '/v2/') return { type: 'base' };
  if (path === '/v2/_catalog') return { type: 'catalog' };
  const found = /^\/v2\/(.+)\/(manifests|blobs|tags|referrers)\/(?:(uploads)(?:\/([^/]*))?|([^/]+))$/.exec(
    path,
  );
  if (found === null) throw new CodedError('ROUTE_UNKNOWN', { detail: { path: path.slice(0, 300) } });
  const [, name = '', kind, uploads, uploadId, last] = found;
  if (uploads !== undefined && kind === 'blobs') {
    return uploadId === undefined || uploadId === ''
      ? { type: 'uploads', name }
      : { type: 'upload', name, uploadId };
  }
  if (uploadId !== undefined) throw new CodedError('ROUTE_UNKNOWN', { detail: { path: path.slice(0, 300) } });
  const value = last ?? uploads!;
  if (kind === 'manifests') return { type: 'manifest', name, reference: parseReference(value) };
  if (kind === 'tags' && value === 'list') return { type: 'tags', name };
  if (kind === 'blobs') return { type: 'blob', name, digest: parseDigest(value) };
  if (kind === 'referrers') return { type: 'referrers', name, digest: parseDigest(value) };
  throw new CodedError('ROUTE_UNKNOWN', { detail: { path: path.slice(0, 300) } });
}

/** A value with `:` is a digest, anything else a tag. @throws `DIGEST_SYNTAX`, `TAG_INVALID` */
export function parseReference(text: string): Reference {
  return text.includes(':')
    ? { kind: 'digest', digest: parseDigest(text) }
    : { kind: 'tag', tag: parseTag(text) };
}

/** A tag or digest as it stands in a path. */
export function referenceText(reference: Reference): string {
  return reference.kind === 'tag' ? reference.tag : reference.digest;
}
