import { createHash, timingSafeEqual } from 'node:crypto';
import { LiveTexts, type LiveTextsDeps, type NamedFile } from '@sepia/base/config/live-texts';
import { CodedError } from '@sepia/base/errors';
import type { Context } from 'koa';

interface HeaderOptions {
  /** The header's name, in lower case. */
  readonly header: string;
  /** What the header must be, to the letter, by the secret of the file. Default: the secret. */
  readonly wanted?: (secret: string) => string;
}

/**
 * Whether a request carries the secret that a file holds now: one that is written anew counts from the next look on.
 * @throws {CodedError} `CONFIG_INVALID` for a file that cannot be read or is empty
 */
export function secretHeader(
  deps: LiveTextsDeps,
  source: NamedFile,
  { header, wanted = (secret) => secret }: HeaderOptions,
): (ctx: Context) => boolean {
  const texts = new LiveTexts(deps, { secret: source }, ({ secret = '' }) => {
    if (secret.trim() === '')
      throw new CodedError('CONFIG_INVALID', { message: `${source.key}: ${source.file} is empty` });
  });
  return (ctx) => {
    const expected = wanted(texts.current().secret?.trim() ?? '');
    // In a time that tells nothing of either.
    return timingSafeEqual(hash(ctx.get(header)), hash(expected));
  };
}

function hash(text: string): Buffer {
  return createHash('sha256').update(text, 'utf8').digest();
}
