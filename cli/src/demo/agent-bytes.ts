import type { Dispatcher } from '@sepia/http/sockets';
import { request } from 'undici';
import { METRICS_MS } from '../deadlines.ts';

/** Values of `source` in `sepia_agent_bytes_total`. */
export const SOURCES = ['peer', 'origin', 'upstream', 'cache'] as const;
/** Bytes that an agent handed on, by where they came from. */
export type AgentBytes = Record<(typeof SOURCES)[number], number>;

/** Reads `sepia_agent_bytes_total` from an agent's metrics. */
export async function agentBytes(adminUrl: string, dispatcher: Dispatcher): Promise<AgentBytes> {
  const answer = await request(`${adminUrl}/metrics`, {
    dispatcher,
    signal: AbortSignal.timeout(METRICS_MS),
  });
  return parseAgentBytes(await answer.body.text());
}

/** As {@link agentBytes}, from the text of the Prometheus format. */
export function parseAgentBytes(metrics: string): AgentBytes {
  const found: AgentBytes = { peer: 0, origin: 0, upstream: 0, cache: 0 };
  for (const line of metrics.split('\n')) {
    const sample = /^sepia_agent_bytes_total\{([^}]*)\} ([\d.e+]+)/.exec(line);
    const source = SOURCES.find((one) => sample?.[1]?.includes(`source="${one}"`));
    if (sample !== null && source !== undefined) found[source] += Number(sample[2]);
  }
  return found;
}

/** Share of the bytes that came over the network which peers sent; 0 when none came. */
export function peerShare(all: readonly AgentBytes[]): number {
  const sum = (source: keyof AgentBytes): number => all.reduce((total, one) => total + one[source], 0);
  const network = sum('peer') + sum('origin') + sum('upstream');
  return network === 0 ? 0 : sum('peer') / network;
}
