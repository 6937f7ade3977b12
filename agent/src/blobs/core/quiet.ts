import { type ErrorCode, isCoded } from '@sepia/base/errors';

const QUIET: readonly ErrorCode[] = ['PEER_HTTP', 'NO_PEERS', 'QUORUM_LOST', 'DRAINING', 'TIMEOUT'];

/** True for what "nobody in the cluster answers" looks like. */
export function isQuiet(error: unknown): boolean {
  return isCoded(error) && QUIET.includes(error.code);
}
