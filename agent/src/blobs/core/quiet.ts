import { type ErrorCode, isCoded } from '@sepia/base/errors';

const QUIET: readonly ErrorCode[] = ['PEER_HTTP', 'NO_PEERS', 'QUORUM_LOST', 'DRAINING', 'TIMEOUT'];

/** True for what "nobody in the cluster answers" looks like. */
export function isQuiet(error: unknown): boolean {
  return isCoded(error) && QUIET.includes(error.code);
}

const DROPPED: readonly ErrorCode[] = [
  'UPSTREAM_LIES',
  'STALE_ATTEMPT',
  'DISK_FULL',
  'DISK_FAILED',
  'DISK_CORRUPT',
];

/** True for what a download ended with whose partial is of no use any more. */
export function isOfNoUse(error: unknown): boolean {
  return isCoded(error) && DROPPED.includes(error.code);
}
