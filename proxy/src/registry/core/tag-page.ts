import { CodedError } from '@sepia/base/errors';
import { nextLink } from './page-link.ts';

/** Most tags in one answer when the client asks for pages. */
const MAX_TAG_PAGE = 10_000;

/** Most tags in one answer to who asks for all: a list that is longer has a `Link` to the rest. */
export const MAX_TAGS = 99_999;

/** `n` of tags/list, at most {@link MAX_TAG_PAGE}; {@link MAX_TAGS} when not given. @throws {CodedError} `REQUEST_INVALID` */
export function parsePageSize(text: string | undefined): number {
  if (text === undefined) return MAX_TAGS;
  if (!/^\d+$/.test(text))
    throw new CodedError('REQUEST_INVALID', {
      message: 'n is not a number of tags',
      detail: { n: text.slice(0, 50) },
    });
  return Math.min(Number(text), MAX_TAG_PAGE);
}

/** Longer than any tag or name. */
const MAX_LAST_CHARS = 256;

/**
 * `last` of a list: what it names need not be there, nor be a name (`team/` leads to what is below it); undefined when not given.
 * @throws {CodedError} `REQUEST_INVALID`
 */
export function parseLast(text: string | undefined): string | undefined {
  if (text === undefined || (text.length <= MAX_LAST_CHARS && /^[\x20-\x7e]*$/.test(text))) return text;
  throw new CodedError('REQUEST_INVALID', {
    message: `last is longer than ${MAX_LAST_CHARS} characters, or not of those that names have`,
  });
}

/** Answer of `GET /v2/<name>/tags/list` (distribution-spec, "Listing Tags"). */
export interface TagPage {
  readonly tags: readonly string[];
  /** Value of the `Link` header when there is more. */
  readonly link?: string;
}

/**
 * Cuts a page of `n` from the sorted tags after `last`, of which one more than `n` were asked for.
 * `name` and `ns` are the client's own words, so that the link leads to the same place.
 */
export function tagPage(tags: readonly string[], n: number, name: string, ns: string | undefined): TagPage {
  if (tags.length <= n) return { tags };
  const page = tags.slice(0, n);
  const last = page.at(-1);
  if (last === undefined) return { tags: page };
  return { tags: page, link: nextLink(`/v2/${name}/tags/list`, { n: String(n), last, ns }) };
}
