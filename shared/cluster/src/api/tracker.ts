import { route } from './route.ts';

const MAX_BODY_BYTES = 4 * 1024 * 1024;

/** Calls that trackers answer, about swarms, leases of nodes and commands to them; each row names who may make it. */
export const TRACKER = {
  join: route('join', 'POST /v1/swarms/:digest/join', { callers: ['agent'], json: MAX_BODY_BYTES }),
  metainfo: route('metainfo', 'GET /v1/swarms/:digest/metainfo', {
    query: ['upstream', 'repository', 'wait?', 'from?'],
    callers: ['agent'],
  }),
  lease: route('lease', 'PUT /v1/nodes/:id', { callers: ['agent'], json: MAX_BODY_BYTES }),
  leave: route('leave', 'DELETE /v1/nodes/:id', { callers: ['agent'] }),
  /** 10,000 digests and 10,000 nodes fit. */
  command: route('command', 'POST /v1/commands', { callers: ['origin', 'proxy'], json: MAX_BODY_BYTES }),
  commandState: route('command-state', 'GET /v1/commands/:id', { callers: ['origin', 'proxy'] }),
  commandWithdraw: route('command-withdraw', 'DELETE /v1/commands/:id', { callers: [] }),
  revocations: route('revocations', 'POST /v1/revocations', { callers: ['origin'], json: MAX_BODY_BYTES }),
  status: route('status', 'GET /v1/status', { callers: ['proxy'] }),
} as const;

/** A blob as a v1 torrent, for standard clients: no call between members, and open as the policy `strangers` says. */
export const TORRENT = route('torrent', 'GET /v1/blobs/:digest/torrent', {
  query: ['upstream?', 'repository'],
  callers: [],
});
