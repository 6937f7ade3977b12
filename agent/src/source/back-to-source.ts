import { createHash } from 'node:crypto';
import { CodedError, isCoded } from '@sepia/base/errors';
import { delay } from '@sepia/base/lifecycle';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { Cluster } from '@sepia/cluster/cluster';
import { requireKept } from '@sepia/metainfo/metainfo';
import type { UpstreamClient } from '@sepia/upstream/upstream-client';
import { type BackToSourcePolicy, sourceDelayMs } from './core/back-to-source.ts';
import type { SourceGate } from './source-gate.ts';

interface BackToSourceDeps {
  readonly cluster: Cluster;
  readonly gate: SourceGate;
  readonly nodeId: string;
  readonly nowMs: () => number;
  readonly upstreamClient: (upstream: string) => UpstreamClient;
}

/** The upstream itself, asked by the agent when the whole cluster is silent, where the policy allows it. */
export class BackToSource {
  readonly #deps: BackToSourceDeps;
  readonly #policy: BackToSourcePolicy;

  constructor(deps: BackToSourceDeps, policy: BackToSourcePolicy) {
    this.#deps = deps;
    this.#policy = policy;
  }

  /**
   * Size of a blob at the upstream, after the wait that the policy asks for; where it states none, the one that a manifest
   * `told`. `cause`: why the cluster did not do.
   * @throws `NO_PEERS` or the cause where the upstream may not be asked, and what it answers
   */
  async ask(
    name: BlobName,
    cause: unknown,
    signal: AbortSignal,
    told?: number,
  ): Promise<{ sizeBytes: number; client: UpstreamClient }> {
    await this.#wait(name, cause, signal);
    const client = this.#deps.upstreamClient(name.upstream);
    const { repository, digest } = name;
    const sizeBytes = (await client.headBlob({ repository, digest }, signal)).sizeBytes ?? told;
    if (sizeBytes === undefined) throw asUnavailable(cause);
    requireKept(sizeBytes, name);
    return { sizeBytes, client };
  }

  /**
   * Waits as the policy asks for, and then for the turn of a blob: others take theirs meanwhile. Call the result once to give it
   * back. @throws as {@link ask}
   */
  async enter(name: BlobName, cause: unknown, signal: AbortSignal): Promise<() => void> {
    await this.#wait(name, cause, signal);
    return await this.#deps.gate.enter('blob', signal);
  }

  /** @throws as {@link ask} where the upstream may not be asked */
  async #wait(name: BlobName, cause: unknown, signal: AbortSignal): Promise<void> {
    const { gate, cluster, nowMs, nodeId } = this.#deps;
    gate.note(false, nowMs(), cause);
    const waitMs = sourceDelayMs(
      this.#policy,
      cluster.upstream(name.upstream).url !== undefined,
      gate.silentForMs(nowMs()),
      fractionOf(nodeId, name.digest),
    );
    if (waitMs === undefined) throw asUnavailable(cause);
    await delay(waitMs, signal);
  }
}

function asUnavailable(cause: unknown): CodedError {
  return isCoded(cause) && cause.code !== 'PEER_HTTP' ? cause : new CodedError('NO_PEERS', { cause });
}

/** 0…1, the same for the same node and digest. */
function fractionOf(nodeId: string, digest: string): number {
  return createHash('sha256').update(`${nodeId}\n${digest}`).digest().readUInt32BE(0) / 2 ** 32;
}
