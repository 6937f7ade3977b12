import type { NodeCommandState } from '@sepia/cluster/api/commands';
import type { JobRow } from './job-slots.ts';

/** Rows of nodes as the trackers tell of them; `isGone` for those that left before they reported. */
export function nodeRows(nodes: readonly NodeCommandState[], isGone: (nodeId: string) => boolean): JobRow[] {
  return nodes.map(({ nodeId, state, address, error, doneBytes, totalBytes }) => {
    const left = (state === 'pending' || state === 'running') && isGone(nodeId);
    return {
      id: nodeId,
      role: 'agent',
      ip: hostOfAddress(address ?? ''),
      state: left ? 'failed' : state,
      description: left ? 'the node went away before it reported' : error,
      doneBytes,
      totalBytes,
    };
  });
}

/** Host of a URL, empty if it is none. */
export function hostOfUrl(url: string): string {
  return URL.canParse(url) ? new URL(url).hostname.replace(/^\[|\]$/g, '') : '';
}

function hostOfAddress(address: string): string {
  return address.replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
}
