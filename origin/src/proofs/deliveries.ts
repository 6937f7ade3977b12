import { SingleFlight } from '@sepia/base/async/single-flight';
import { Digester, digestAlgorithm } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { LatestMap } from '@sepia/base/latest-map';
import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import { H_HOP } from '@sepia/cluster/api/headers';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { demandPace } from '@sepia/http/bodies/core/body-floor';
import type { Provenance } from '@sepia/store/sidecar';
import type { Members } from '../cluster/members.ts';
import type { Others } from '../cluster/others.ts';
import { DELIVERY_LEADER_MS } from '../deadlines/members.ts';
import { DELIVERY_FAILED_MS, DELIVERY_MS, MANIFEST_BODY_MS } from '../deadlines/upstreams.ts';
import { liesError } from '../fetch/failures.ts';
import { upstreamError } from '../upstream/upstream-failure.ts';
import type { Upstreams } from '../upstream/upstreams.ts';

/** Digests by upstream that are remembered without a stored blob that says so. */
const MAX_DELIVERED = 20_000;
/** Whole bodies read at once only to see that an upstream has them. */
const MAX_READING = 32;
const MAX_FAILED = 2_000;

/** What is asked for at the upstream. */
export type Kind = 'blob' | 'manifest';

export interface DeliveriesDeps {
  readonly members: Members;
  readonly upstreams: Upstreams;
  readonly log: Logger;
  readonly nowMs: () => number;
}

/**
 * Which upstreams had which bytes. That an upstream answers HEAD proves nothing: it may know the digest of what another
 * one keeps private. So bytes that are here because of other upstreams are shown under this one only after it sent them
 * all itself, once; they are compared and thrown away. One origin reads them for the cluster: the digest's leader.
 */
export class Deliveries {
  readonly #deps: DeliveriesDeps;
  readonly #delivered = new LatestMap<string, true>(MAX_DELIVERED);
  readonly #running = new SingleFlight<string, void>();
  readonly #failed = new LatestMap<string, { readonly error: CodedError; readonly untilMs: number }>(
    MAX_FAILED,
  );
  readonly #stopped = new AbortController();
  #reading = 0;

  constructor(deps: DeliveriesDeps) {
    this.#deps = deps;
  }

  /** True if the upstream is known to have had the bytes; `provenance`: whose bytes are stored. */
  has(name: BlobName, provenance: readonly Provenance[]): boolean {
    return this.#delivered.has(keyOf(name)) || provenance.some(({ upstream }) => upstream === name.upstream);
  }

  /** The bytes came from the upstream. */
  note(name: BlobName): void {
    this.#delivered.set(keyOf(name), true);
  }

  /**
   * Resolves when the upstream has sent the whole content under this name, once for all that wait; goes on when they
   * leave. Of others, the leader of the digest is asked.
   * @throws `UPSTREAM_LIES` for other bytes, `NO_PEERS` when too many are read, what the upstream says; the signal's reason
   */
  async require(name: BlobName, kind: Kind, others: Others, signal: AbortSignal): Promise<void> {
    if (this.#delivered.has(keyOf(name))) return;
    const key = `${keyOf(name)}\n${name.repository}`;
    const failed = this.#failed.get(key);
    if (failed !== undefined && failed.untilMs > this.#deps.nowMs()) throw failed.error;
    await this.#running.share(key, async () => await this.#see(name, kind, others), signal);
  }

  stop(): void {
    this.#stopped.abort(new CodedError('DRAINING'));
  }

  async #see(name: BlobName, kind: Kind, others: Others): Promise<void> {
    const { nowMs, members } = this.#deps;
    try {
      const leader = members.leaderOf(name.digest);
      if (others === 'skip' || leader === members.selfId || !(await this.#atLeader(leader, name, kind)))
        await this.#read(name, kind);
    } catch (thrown) {
      const error = upstreamError(thrown, name.upstream);
      if (isCoded(error, 'DRAINING') || isCoded(error, 'NO_PEERS')) throw error;
      this.#failed.set(`${keyOf(name)}\n${name.repository}`, {
        error,
        untilMs: nowMs() + DELIVERY_FAILED_MS,
      });
      throw error;
    }
    this.note(name);
  }

  /** False if the leader does not answer. @throws what the upstream told it */
  async #atLeader(leader: string, name: BlobName, kind: Kind): Promise<boolean> {
    const { members } = this.#deps;
    const asked = to(ORIGIN_BLOBS.delivery, { ...name, kind });
    const call = { ...asked, headers: { [H_HOP]: '1' }, headersTimeoutMs: DELIVERY_LEADER_MS };
    try {
      await members.attended(
        leader,
        async (signal) => await members.json(leader, { ...call, signal }),
        this.#stopped.signal,
      );
      return true;
    } catch (error) {
      this.#stopped.signal.throwIfAborted();
      if (isCoded(error) && ['PEER_HTTP', 'DRAINING', 'INTERNAL', 'ROUTE_UNKNOWN'].includes(error.code))
        return false;
      throw error;
    }
  }

  async #read(name: BlobName, kind: Kind): Promise<void> {
    const { upstreams, log, nowMs } = this.#deps;
    const client = upstreams.client(name.upstream);
    if (client === undefined) throw new CodedError('BLOB_UNKNOWN', { detail: { digest: name.digest } });
    if (this.#reading >= MAX_READING)
      throw new CodedError('NO_PEERS', {
        message: `${MAX_READING} bodies of upstreams are being compared; try again later`,
        detail: { digest: name.digest, retryAfterSeconds: 5 },
      });
    this.#reading += 1;
    const { repository, digest } = name;
    const lateMs = kind === 'manifest' ? upstreams.firstByteMs + MANIFEST_BODY_MS : DELIVERY_MS;
    const signal = AbortSignal.any([this.#stopped.signal, AbortSignal.timeout(lateMs)]);
    try {
      if (kind === 'manifest') {
        await client.getManifest({ repository, reference: { kind: 'digest', digest } }, signal);
      } else {
        const { body } = await client.getBlob({ repository, digest }, signal);
        const digester = new Digester(digestAlgorithm(digest));
        const startMs = nowMs();
        let sizeBytes = 0;
        for await (const chunk of body.lent()) {
          sizeBytes += chunk.length;
          demandPace(sizeBytes, nowMs() - startMs);
          digester.update(chunk);
        }
        if (digester.digest() !== digest) throw liesError(name);
      }
    } finally {
      this.#reading -= 1;
    }
    log.info({ ...name }, 'the upstream has content that is here because of another one');
  }
}

function keyOf({ upstream, digest }: BlobName): string {
  return `${upstream}\n${digest}`;
}
