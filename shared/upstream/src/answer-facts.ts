import { type Digest, digestAlgorithm, digestOf } from '@sepia/base/digest';
import { tryParse } from '@sepia/base/failure';
import { isTag, type Tag } from '@sepia/base/names/repository';
import { codingOf } from './content-coding.ts';
import { type Answer, header } from './exchange.ts';

/** `Content-Type` without parameters, in lower case. */
export function mediaTypeOf(answer: Pick<Answer, 'headers'>): string | undefined {
  const type = header(answer, 'content-type')?.split(';')[0]?.trim().toLowerCase();
  return type === '' ? undefined : type;
}

/**
 * True for a web page that stands in for a registry, though it says 200: a load balancer's while nothing is behind it, or a login's.
 * Registries call even their pages their own.
 */
export function isPage(answer: Pick<Answer, 'headers'>): boolean {
  const isRegistry = header(answer, 'docker-distribution-api-version') !== undefined;
  return mediaTypeOf(answer) === 'text/html' && !isRegistry;
}

/** `Content-Length` in bytes, if it is there and sound. */
export function lengthOf(answer: Pick<Answer, 'headers'>): number | undefined {
  const text = header(answer, 'content-length') ?? '';
  return /^\d{1,15}$/.test(text) ? Number(text) : undefined;
}

/** As {@link lengthOf}, of what is told of: undefined where the body is encoded, or the answer to HEAD says 0. */
export function statedLengthOf(answer: Pick<Answer, 'headers'>): number | undefined {
  const found = codingOf(answer) === undefined ? lengthOf(answer) : undefined;
  return found === 0 ? undefined : found;
}

/** Size of a blob as an answer states it; 0 is believed of the empty blob alone. */
export function blobSizeOf(answer: Pick<Answer, 'headers'>, digest: Digest): number | undefined {
  return isEmptyBlob(digest) ? 0 : statedLengthOf(answer);
}

function isEmptyBlob(digest: Digest): boolean {
  return digestOf(new Uint8Array(0), digestAlgorithm(digest)) === digest;
}

/**
 * The part that a 206 carries; undefined unless it is the asked one, shortened at most to the end of the blob. Some servers leave out
 * the unit or the size, or write the unit as in `Range`.
 */
export function partOf(
  answer: Pick<Answer, 'headers'>,
  asked: { readonly start: number; readonly end?: number | undefined },
): { start: number; end: number; sizeBytes: number | undefined } | undefined {
  const found = /^(?:bytes(?:\s+|=\s*))?(\d{1,15})-(\d{1,15})(?:\/(\d{1,15}|\*))?$/i.exec(
    header(answer, 'content-range')?.trim() ?? '',
  );
  if (found === null) return undefined;
  const [start, end] = [Number(found[1]), Number(found[2])];
  const sizeBytes = found[3] === undefined || found[3] === '*' ? undefined : Number(found[3]);
  const reachesEnd = sizeBytes !== undefined && end === sizeBytes - 1;
  const isAsked = start === asked.start && end >= start && (sizeBytes === undefined || end < sizeBytes);
  const endFits =
    asked.end === undefined
      ? reachesEnd || sizeBytes === undefined
      : end === asked.end || (reachesEnd && end < asked.end);
  return isAsked && endFits ? { start, end, sizeBytes } : undefined;
}

/** The JSON object that an answer is; undefined if it is none. */
export function objectOf(bytes: Uint8Array): Readonly<Record<string, unknown>> | undefined {
  const read = tryParse<unknown>(() => JSON.parse(new TextDecoder().decode(bytes)));
  return read.ok && typeof read.value === 'object' && read.value !== null ? { ...read.value } : undefined;
}

/** The tags of a `tags/list` answer; undefined if it is none. Some registries send null for an empty list. */
export function tagsOf(bytes: Uint8Array): Tag[] | undefined {
  const value = objectOf(bytes);
  if (value === undefined) return undefined;
  const tags = value['tags'] ?? [];
  return Array.isArray(tags)
    ? tags.filter((tag): tag is Tag => typeof tag === 'string' && isTag(tag))
    : undefined;
}

/**
 * One link of a `Link` header with its parameters (RFC 8288, 3); commas inside quotes belong to a value. A quote that is never closed
 * reaches to the end: nothing behind it is looked through again.
 */
const LINK = /<([^<>]*)>((?:[^,<"]|"(?:[^"\\]|\\.?)*(?:"|$))*)/g;
const LINK_PARAMETER = /;\s*([\w*-]+)\s*(?:=\s*(?:"((?:[^"\\]|\\.)*)"|'([^']*)'|([^;,\s]*)))?/g;

/**
 * What the `Link` headers of an answer name as next, among whatever else they name, in linear time whatever they hold. Of another
 * host too: use its query alone, so that nobody else is ever asked.
 */
function nextTarget(link: string | readonly string[] | undefined): URL | undefined {
  for (const [, target = '', parameters = ''] of [link ?? []].flat().join(', ').matchAll(LINK)) {
    if (!isNext(parameters)) continue;
    return URL.canParse(target, 'http://link.invalid') ? new URL(target, 'http://link.invalid') : undefined;
  }
  return undefined;
}

/** A `rel` may name several relations; the first one counts. */
function isNext(parameters: string): boolean {
  for (const [, name = '', quoted, single, bare] of parameters.matchAll(LINK_PARAMETER))
    if (name.toLowerCase() === 'rel') return /(?:^|\s)next(?:\s|$)/i.test(quoted ?? single ?? bare ?? '');
  return false;
}

/** The query of a `Link: <…>; rel="next"` header: what is in it is the registry's own affair (`last`, or a token as Quay has them). */
export function nextQuery(link: string | readonly string[] | undefined): string | undefined {
  const search = nextTarget(link)?.search ?? '';
  return search.length > 1 ? search.slice(1) : undefined;
}
