import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { type NamedUpstream, type ResolvedName, resolveName } from '@sepia/base/names/upstream-name';
import { parseReference, type Reference } from '@sepia/oci/route';

/** Longest URL taken, in bytes. */
const MAX_URL_BYTES = 2 * 1024;

/** An image of an upstream, by tag or digest, as a URL of this cluster named it. */
export interface ImageName extends ResolvedName {
  readonly reference: Reference;
}

/** An image with its URL as it may be kept and shown: without query and fragment. */
export interface NamedImage {
  readonly image: ImageName;
  readonly url: string;
}

const PATH = /^\/v2\/(.+)\/manifests\/([^/]+)$/;

/**
 * What a manifest's URL means, as Harbor's drivers send it; a path alone is at the listener's own upstream. The host
 * only chooses among the upstreams of the cluster: none is ever dialled because of it.
 * @throws {CodedError} `REQUEST_INVALID`, `UPSTREAM_UNKNOWN`, `NAME_INVALID`, `TAG_INVALID`, `DIGEST_SYNTAX`
 */
export function parseImageUrl(
  text: string,
  upstreams: readonly NamedUpstream[],
  defaultUpstream: string,
): NamedImage {
  if (Buffer.byteLength(text) > MAX_URL_BYTES)
    throw new CodedError('REQUEST_INVALID', { message: `url is longer than ${MAX_URL_BYTES} bytes` });
  const isPath = text.startsWith('/') && !text.startsWith('//');
  if (!URL.canParse(text, isPath ? 'http://path.invalid' : undefined)) throw invalid(text);
  const url = new URL(text, isPath ? 'http://path.invalid' : undefined);
  if (url.username !== '' || url.password !== '')
    throw new CodedError('REQUEST_INVALID', {
      message: 'url has a user or password in it; send an Authorization header instead',
    });
  let path: string;
  try {
    path = decodeURIComponent(url.pathname);
  } catch (error) {
    throwIfBug(error);
    throw invalid(text);
  }
  const [, name, reference] = PATH.exec(path) ?? [];
  if (!['http:', 'https:'].includes(url.protocol) || name === undefined || reference === undefined)
    throw invalid(text);
  try {
    const target = resolveName({ ns: isPath ? undefined : url.host, name, defaultUpstream }, upstreams);
    const image = { ...target, reference: parseReference(reference) };
    return { image, url: isPath ? path : `${url.origin}${path}` };
  } catch (error) {
    if (!(error instanceof CodedError) || error.code !== 'UPSTREAM_UNKNOWN') throw error;
    throw new CodedError('UPSTREAM_UNKNOWN', {
      message: `no upstream answers to ${url.host}; add it to "hosts" of the upstream in the cluster document`,
      detail: { host: url.host.slice(0, 255) },
    });
  }
}

function invalid(text: string): CodedError {
  return new CodedError('REQUEST_INVALID', {
    message: 'url is not that of a manifest (http://HOST/v2/NAME/manifests/REFERENCE)',
    detail: { found: text.slice(0, 300) },
  });
}
