import { CodedError } from '@sepia/base/errors';
import { type Answer, discard, header } from './exchange.ts';

/** Most redirects followed for one request. */
export const MAX_REDIRECTS = 5;

const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/**
 * Where an answer redirects to; undefined if it is no redirect.
 * @throws {CodedError} `UPSTREAM_DENIED`, which asking again does not change, when the target is not http(s), carries credentials, or
 * leaves https and `allowPlain` is not set; `BACKEND_DOWN` when it is missing or malformed
 */
export function redirectTarget(answer: Answer, allowPlain: boolean): URL | undefined {
  if (!REDIRECTS.has(answer.status)) return undefined;
  const location = header(answer, 'location');
  if (location === undefined || location === '') throw broken(answer, 'names no Location');
  if (!URL.canParse(location, answer.url.href)) throw broken(answer, 'names a malformed Location');
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

/** Where nobody is sent, however often the registry says so. */
function refused({ url: { host } }: Answer, why: string): CodedError {
  return new CodedError('UPSTREAM_DENIED', {
    message: `redirect of ${host} ${why}; not followed`,
    detail: { host, reason: 'redirect-refused' },
  });
}

function broken({ url: { host }, status }: Answer, why: string): CodedError {
  return new CodedError('BACKEND_DOWN', { message: `redirect of ${host} ${why}`, detail: { host, status } });
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
