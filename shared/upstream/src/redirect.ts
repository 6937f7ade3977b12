import { CodedError } from '@sepia/base/errors';
import { type Answer, discard, header } from './exchange.ts';

/** Most redirects followed for one request. */
export const MAX_REDIRECTS = 5;

const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/**
 * Where an answer redirects to; undefined if it is no redirect.
 * @throws {CodedError} `BACKEND_DOWN` when the target is missing, malformed, not http(s), carries credentials, or leaves https and `allowPlain` is not set
 */
export function redirectTarget(answer: Answer, allowPlain: boolean): URL | undefined {
  if (!REDIRECTS.has(answer.status)) return undefined;
  const location = header(answer, 'location');
  if (location === undefined || location === '') throw refused(answer, 'names no Location');
  if (!URL.canParse(location, answer.url.href)) throw refused(answer, 'names a malformed Location');
  const target = new URL(location, answer.url);
  if (target.protocol !== 'https:' && target.protocol !== 'http:')
    throw refused(answer, `leads to ${target.protocol.slice(0, 20)}, which is not http`);
  if (target.username !== '' || target.password !== '')
    throw refused(answer, 'leads to a URL with credentials');
  if (answer.url.protocol === 'https:' && target.protocol === 'http:' && !allowPlain)
    throw refused(answer, 'leaves https; set insecure to follow it');
  target.hash = '';
  return target;
}

function refused(answer: Answer, why: string): CodedError {
  return new CodedError('BACKEND_DOWN', {
    message: `redirect of ${answer.url.host} ${why}`,
    detail: { host: answer.url.host, status: answer.status },
  });
}

/** As {@link redirectTarget}; lets go of the answer that is followed or refused. */
export function followed(answer: Answer, allowPlain: boolean): URL | undefined {
  let target: URL | undefined;
  try {
    target = redirectTarget(answer, allowPlain);
  } catch (error) {
    discard(answer);
    throw error;
  }
  if (target !== undefined) discard(answer);
  return target;
}
