import { existsSync, realpathSync } from 'node:fs';
import { CodedError } from '@sepia/base/errors';
import { layoutTags } from '../image/layout-writer.ts';
import { type Place, placeText } from './place.ts';

/**
 * A result takes the place of nothing that it was made from, nor of a file that is there; of a layout it replaces the image
 * of its tag. @throws {CodedError} `REQUEST_INVALID`
 */
export function checkOverwrite(source: Place, target: Place, tag: string): void {
  if (target.kind === 'registry') {
    if (source.kind === 'registry' && identity(source) === identity(target))
      throw refuse(`${placeText(target)} is the source itself; name another tag`);
  } else if (target.isTar) {
    if (existsSync(target.path)) throw refuse(`${target.path} is there already; name another file`);
  } else if (!existsSync(target.path)) return;
  else if (!layoutTags(target.path).includes(tag)) return;
  else if (source.kind === 'disk' && realpathSync(source.path) === realpathSync(target.path))
    throw refuse(`${target.path} is the layout of the source and has an image ${tag}; name another folder`);
}

function identity({ url, repository, reference }: Extract<Place, { kind: 'registry' }>): string {
  return JSON.stringify([new URL(url).href, repository, reference]);
}

function refuse(why: string): CodedError {
  return new CodedError('REQUEST_INVALID', { message: `${why}, or give --replace` });
}
