import { isCoded } from '@sepia/base/errors';

/** Answers to HEAD of a blob that is there. */
export const THERE = [200, 302, 303, 307, 308];
/** What registries answer to what they took. */
export const TAKEN = [200, 201, 202, 204];
/** Answers of a registry that takes no chunks, or none of this size; 500 to what closes a session of them. */
export const NO_CHUNKS = [400, 404, 405, 411, 413, 415, 416, 422, 500, 501];

/** A cut connection or a failure of the server may have left bytes there; a 416 says that it stands elsewhere. */
export function mayResume(error: unknown): boolean {
  if (isCoded(error, 'BACKEND_DOWN')) return error.detail['status'] !== 501;
  return isCoded(error, 'RANGE_INVALID');
}

/** True where a registry, or a gateway before it, takes no body as large as this one. */
export function isTooLarge(error: unknown): boolean {
  return isCoded(error) && error.detail['status'] === 413;
}

/** True where a mount was answered, and not done: the blob can be uploaded all the same. */
export function isRefusedMount(error: unknown): boolean {
  if (isCoded(error, 'BACKEND_DOWN')) return error.detail['status'] !== undefined;
  return isCoded(error, 'UPSTREAM_DENIED') || isCoded(error, 'REPOSITORY_UNKNOWN');
}
