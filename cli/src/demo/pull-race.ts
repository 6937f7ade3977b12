import { ignoreFailure, throwIfBug } from '@sepia/base/failure';
import type { Dispatcher } from '@sepia/http/sockets';
import { eachBlob, resolveImage } from '../registry/pull-image.ts';
import { RegistryClient } from '../registry/registry-client.ts';
import type { Transfers } from '../terminal/transfers.ts';
import type { ClusterFileMember } from '../up/cluster-file.ts';
import { type AgentBytes, agentBytes } from './agent-bytes.ts';

/** How one agent's pull went. */
export interface PullResult {
  readonly agent: string;
  readonly totalMs: number;
  /** From the start of the pull to the first byte of a blob, in ms. */
  readonly firstByteMs: number;
  readonly sizeBytes: number;
  readonly bytes: AgentBytes;
  /** Undefined when every digest was right. */
  readonly failure: string | undefined;
}

interface RaceOptions {
  readonly agents: readonly ClusterFileMember[];
  readonly repository: string;
  readonly tag: string;
  /** What one pull moves, for the bars. */
  readonly sizeBytes: number;
  readonly signal: AbortSignal;
}

/** Pulls one image through every agent at the same time, each with a registry client of its own. Rejects only when aborted. */
export async function pullRace(
  deps: { readonly dispatcher: Dispatcher; readonly transfers: Transfers },
  options: RaceOptions,
): Promise<PullResult[]> {
  return await Promise.all(options.agents.map((agent) => pullOne(deps, agent, options)));
}

async function pullOne(
  deps: { readonly dispatcher: Dispatcher; readonly transfers: Transfers },
  agent: ClusterFileMember,
  options: RaceOptions,
): Promise<PullResult> {
  const client = new RegistryClient({ dispatcher: deps.dispatcher }, { url: agent.url });
  const transfer = deps.transfers.start(agent.name, options.sizeBytes);
  const startedMs = performance.now();
  let firstByteMs = 0;
  let sizeBytes = 0;
  let failure: string | undefined;
  try {
    const { blobs } = await resolveImage(client, options.repository, options.tag, options.signal);
    await eachBlob(
      blobs,
      async (blob, signal) => {
        const take = (chunk: Buffer): void => {
          if (sizeBytes === 0) firstByteMs = performance.now() - startedMs;
          sizeBytes += chunk.length;
          transfer.add(chunk.length);
        };
        await client.pullBlob(options.repository, blob, take, signal);
      },
      options.signal,
    );
    transfer.end();
  } catch (error) {
    throwIfBug(error);
    options.signal.throwIfAborted();
    failure = (error as Error).message;
    transfer.end(`failed: ${failure}`);
  }
  const totalMs = performance.now() - startedMs;
  const bytes = (await agentBytes(agent.adminUrl, deps.dispatcher).catch(ignoreFailure)) ?? {
    peer: 0,
    origin: 0,
    upstream: 0,
    cache: 0,
  };
  return { agent: agent.name, totalMs, firstByteMs, sizeBytes, bytes, failure };
}
