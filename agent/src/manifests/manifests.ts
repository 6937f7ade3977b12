import { firstAnswer } from '@sepia/base/async/ask-many';
import { FreshFlight } from '@sepia/base/async/fresh-flight';
import { type Digest, digestAlgorithm, digestOf, isDigest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { ResolvedName } from '@sepia/base/names/upstream-name';
import { H_STALE, H_UPSTREAM } from '@sepia/cluster/api/headers';
import type { Cluster } from '@sepia/cluster/cluster';
import { shardKey } from '@sepia/cluster/cluster';
import { isDecisive, isSilence } from '@sepia/cluster/core/answers';
import type { LookUp } from '@sepia/cluster/core/link-ledger';
import { FIRST_ANSWER_MS } from '@sepia/cluster/deadlines';
import { candidatesOf } from '@sepia/cluster/ring';
import type { ManifestAnswer } from '@sepia/face/manifest-answer';
import type { InternalClient, InternalResponse } from '@sepia/http/client';
import { MAX_MANIFEST_BYTES, parseServedManifest } from '@sepia/oci/manifest';
import { type Reference, referenceText } from '@sepia/oci/route';
import type { BlobStore } from '@sepia/store/blob-store';
import type { UpstreamClient } from '@sepia/upstream/upstream-client';
import type { Hints } from '../blobs/core/hints.ts';
import type { LinkProofs } from '../blobs/links.ts';
import { type CallWatch, proxiesOf, type Target, targetsOf } from '../cluster/members.ts';
import type { OriginClient } from '../cluster/origin-client.ts';
import { MANIFEST_HEDGE_MS } from '../deadlines.ts';
import { type BackToSourcePolicy, sourceDelayMs } from '../source/core/back-to-source.ts';
import type { SourceGate } from '../source/source-gate.ts';
import type { TagMemory } from './tag-memory.ts';

/** Longest list of tags, referrers or repositories that is passed on. */
const MAX_LIST_BYTES = 32 * 1024 * 1024;

interface ManifestsDeps {
  readonly cluster: Cluster;
  readonly client: InternalClient;
  readonly origins: OriginClient;
  readonly health: CallWatch;
  readonly store: BlobStore;
  readonly hints: Hints;
  readonly tags: TagMemory;
  readonly proofs: LinkProofs;
  readonly gate: SourceGate;
  readonly upstreamClient: (upstream: string) => UpstreamClient;
  readonly nodeId: string;
  readonly log: Logger;
  readonly nowMs: () => number;
  /** The cluster's date, which may be set. */
  readonly dateMs: () => number;
}

type Whole = ManifestAnswer & { readonly bytes: Uint8Array };

/** Manifests: the cache by digest, a proxy, an origin, what the cache last knew of a tag, the upstream itself. */
export class Manifests {
  readonly #deps: ManifestsDeps;
  readonly #policy: BackToSourcePolicy;
  readonly #asked = new FreshFlight<string, Whole>({ waitMs: MANIFEST_HEDGE_MS });

  constructor(deps: ManifestsDeps, options: { readonly backToSource: BackToSourcePolicy }) {
    this.#deps = deps;
    this.#policy = options.backToSource;
  }

  /** @throws `MANIFEST_UNKNOWN`, `TAG_UNKNOWN`, `NO_PEERS` and what upstreams answer; always verified bytes */
  async get(target: ResolvedName, reference: Reference, signal: AbortSignal): Promise<Whole> {
    if (reference.kind === 'digest' && this.#mayServe(target, reference.digest)) {
      const cached = await this.#fromCache(target, reference.digest);
      if (cached !== undefined) return cached;
    }
    // All pods of a node ask at once.
    const key = `${target.upstream}\n${target.repository}\n${referenceText(reference)}`;
    return await this.#asked.run(
      key,
      async (running) => await this.#find(target, reference, running),
      signal,
    );
  }

  async #find(target: ResolvedName, reference: Reference, signal: AbortSignal): Promise<Whole> {
    const { proofs, tags, nowMs } = this.#deps;
    const lookUp = proofs.begin(nowMs());
    const asked = tags.ask();
    let found: Whole;
    try {
      found = await this.#fromCluster(target, reference, signal);
    } catch (error) {
      throwIfBug(error);
      signal.throwIfAborted();
      if (isCoded(error, 'TAG_UNKNOWN') && reference.kind === 'tag')
        tags.forget(target.upstream, target.repository, { tag: reference.tag }, asked);
      if (isDecisive(error)) throw error;
      return await this.#withoutCluster(target, reference, asked, error, signal);
    }
    await this.#keep(target, reference, found, asked);
    this.#prove(target, found, lookUp);
    return found;
  }

  /** A list as a proxy answers it: JSON bytes and headers. `path` is that of `/v2`, with query. */
  async list(
    upstream: string,
    path: string,
    signal: AbortSignal,
  ): Promise<{ bytes: Buffer; headers: InternalResponse['headers'] }> {
    return await this.#askProxies({ upstream }, path, signal, MAX_LIST_BYTES);
  }

  /** Neither the upstream wants to be asked first, nor can the link have been deleted unheard. */
  #mayServe(target: ResolvedName, digest: Digest): boolean {
    const { cluster, proofs, nowMs } = this.#deps;
    if (cluster.upstream(target.upstream)['manifest-recheck'] !== 'never') return false;
    return proofs.isBelieved({ ...target, digest }, nowMs());
  }

  async #fromCluster(target: ResolvedName, reference: Reference, signal: AbortSignal): Promise<Whole> {
    const { cluster, health } = this.#deps;
    const key = reference.kind === 'digest' ? reference.digest : shardKey(target.upstream, target.repository);
    const originIds = candidatesOf(cluster.origins(key));
    const all = [...this.#proxies(), ...targetsOf(cluster, originIds)];
    const ask = (running: AbortSignal): Promise<Whole> => this.#ask(target, reference, originIds, running);
    return await health.attend(all, ask, signal);
  }

  /** Proxies; where none answers, origins. */
  async #ask(
    target: ResolvedName,
    reference: Reference,
    originIds: readonly string[],
    signal: AbortSignal,
  ): Promise<Whole> {
    const text = referenceText(reference);
    try {
      return answerOf(
        reference,
        await this.#askProxies(target, `/v2/${target.repository}/manifests/${text}`, signal),
      );
    } catch (error) {
      throwIfBug(error);
      signal.throwIfAborted();
      if (isDecisive(error)) throw error;
      const { upstream, repository } = target;
      const answer = await this.#deps.origins
        .manifest(upstream, repository, text, 'GET', originIds, signal)
        .catch((later: unknown) => {
          throwIfBug(later);
          throw isNobody(later) && !isNobody(error) ? error : later;
        });
      return answerOf(reference, answer);
    }
  }

  async #askProxies(
    target: Pick<ResolvedName, 'upstream'>,
    path: string,
    signal: AbortSignal,
    limitBytes = MAX_MANIFEST_BYTES,
  ): Promise<{ bytes: Buffer; headers: InternalResponse['headers'] }> {
    const { client, health, gate, nowMs } = this.#deps;
    const proxies = this.#proxies();
    const ask = (proxy: Target, abort: AbortSignal) =>
      health.watch(proxy, MANIFEST_HEDGE_MS * 3, () =>
        client.bytes(
          {
            url: proxy.url,
            to: proxy.id,
            method: 'GET',
            path,
            headers: { [H_UPSTREAM]: target.upstream },
            headersTimeoutMs: FIRST_ANSWER_MS.agent,
            signal: abort,
          },
          limitBytes,
        ),
      );
    const first = (running: AbortSignal) =>
      firstAnswer(proxies, ask, { hedgeAfterMs: MANIFEST_HEDGE_MS, signal: running, isFinal: isDecisive });
    const answer = await health.attend(proxies, first, signal);
    gate.note(true, nowMs());
    return answer;
  }

  /** The proxy of this node, then the others; healthy ones first. */
  #proxies(): Target[] {
    const { cluster, health, nodeId } = this.#deps;
    return proxiesOf(cluster, health, nodeId);
  }

  /** The last resort, in order: the tag as last seen, the upstream itself. */
  async #withoutCluster(
    target: ResolvedName,
    reference: Reference,
    asked: number,
    cause: unknown,
    signal: AbortSignal,
  ): Promise<Whole> {
    const { gate, tags, nowMs, dateMs, log } = this.#deps;
    gate.note(false, nowMs(), cause);
    if (reference.kind === 'digest') {
      const cached = await this.#fromCache(target, reference.digest);
      if (cached !== undefined) return cached;
    }
    const seen =
      reference.kind === 'tag' ? tags.get(target.upstream, target.repository, reference.tag) : undefined;
    if (seen !== undefined) {
      const cached = await this.#fromCache(target, seen.digest);
      if (cached !== undefined) {
        log.warn(
          { ...target, tag: referenceText(reference) },
          'nobody answers; serving the tag as last seen',
        );
        return { ...cached, staleSeconds: Math.max(0, Math.round((dateMs() - seen.atMs) / 1000)) };
      }
    }
    const found = await this.#fromUpstream(target, reference, cause, signal);
    await this.#keep(target, reference, found, asked);
    return found;
  }

  async #fromUpstream(
    target: ResolvedName,
    reference: Reference,
    cause: unknown,
    signal: AbortSignal,
  ): Promise<Whole> {
    const { cluster, gate, nowMs, upstreamClient, log } = this.#deps;
    const { url, mode } = cluster.upstream(target.upstream);
    // A tag of mode write-back may be news to the registry behind: only the cluster knows.
    const mayTell = url !== undefined && (mode === 'pull-through' || reference.kind === 'digest');
    const waitMs = sourceDelayMs(this.#policy, mayTell, gate.silentForMs(nowMs()), 0);
    if (waitMs === undefined)
      throw isCoded(cause) && (cause.code !== 'PEER_HTTP' || !isSilence(cause))
        ? cause
        : new CodedError('NO_PEERS', { message: 'no proxy and no origin answers', cause });
    const release = await gate.enter('manifest', signal);
    try {
      log.warn(
        { ...target, reference: referenceText(reference) },
        'nobody in the cluster answers; asking the upstream itself',
      );
      const { bytes, mediaType, digest } = await upstreamClient(target.upstream).getManifest(
        { repository: target.repository, reference },
        signal,
      );
      return { bytes, mediaType, digest, sizeBytes: bytes.length };
    } finally {
      release();
    }
  }

  async #fromCache(target: ResolvedName, digest: Digest): Promise<Whole | undefined> {
    await using handle = await this.#deps.store.open(digest);
    if (handle === undefined || handle.attrs.mediaType === undefined) return undefined;
    const linked = handle.attrs.provenance.some(
      (from) => from.upstream === target.upstream && from.repository === target.repository,
    );
    if (!linked || handle.sizeBytes > MAX_MANIFEST_BYTES) return undefined;
    try {
      const bytes = await handle.readAllVerified();
      this.#note(target, bytes, handle.attrs.mediaType);
      return { digest, mediaType: handle.attrs.mediaType, sizeBytes: bytes.length, bytes };
    } catch (error) {
      throwIfBug(error);
      this.#deps.log.warn({ err: error, digest }, 'cached manifest is damaged; asking again');
      await this.#deps.store.delete(digest);
      return undefined;
    }
  }

  async #keep(target: ResolvedName, reference: Reference, found: Whole, asked: number): Promise<void> {
    this.#note(target, found.bytes, found.mediaType);
    const { tags, dateMs } = this.#deps;
    if (reference.kind === 'tag')
      tags.note({ ...target, tag: reference.tag }, { digest: found.digest, atMs: dateMs(), asked });
    try {
      const attrs = {
        class: 'cached' as const,
        provenance: [{ upstream: target.upstream, repository: target.repository }],
        writtenBack: true,
        mediaType: found.mediaType,
      };
      await this.#deps.store.putBytes(found.digest, found.bytes, attrs);
      await this.#deps.store.addProvenance(found.digest, attrs.provenance[0]!);
    } catch (error) {
      throwIfBug(error);
      this.#deps.log.warn(
        { err: error, digest: found.digest },
        'manifest is not cached; served all the same',
      );
    }
  }

  /** The cluster vouched for the manifest and all that it names. */
  #prove(target: ResolvedName, { digest, bytes, mediaType }: Whole, lookUp: LookUp): void {
    const { proofs } = this.#deps;
    proofs.note({ ...target, digest }, true, lookUp);
    try {
      for (const one of parseServedManifest(bytes, mediaType).descriptors)
        proofs.note({ ...target, digest: one.digest }, true, lookUp);
    } catch (error) {
      throwIfBug(error);
      // A manifest of an unknown form vouches for itself alone.
    }
  }

  #note(target: ResolvedName, bytes: Uint8Array, mediaType: string): void {
    try {
      for (const { digest, sizeBytes, mediaType: type, foreign } of parseServedManifest(bytes, mediaType)
        .descriptors) {
        if (!foreign)
          this.#deps.hints.note(target.upstream, target.repository, digest, { sizeBytes, mediaType: type });
      }
    } catch (error) {
      throwIfBug(error);
      this.#deps.log.debug({ err: error }, 'manifest of an unknown form gives no hints');
    }
  }
}

function answerOf(
  reference: Reference,
  answer: { bytes: Buffer; headers: InternalResponse['headers'] },
): Whole {
  const { bytes, headers } = answer;
  const named = one(headers['docker-content-digest']) ?? '';
  const expected = reference.kind === 'digest' ? reference.digest : named;
  if (!isDigest(expected)) throw new CodedError('PEER_HTTP', { message: 'answer names no digest' });
  const found = digestOf(bytes, digestAlgorithm(expected));
  if (found !== expected)
    throw new CodedError('PEER_HTTP', {
      message: 'manifest does not match its digest',
      detail: { expected, found },
    });
  const stale = Number(one(headers[H_STALE]) ?? Number.NaN);
  return {
    digest: expected,
    mediaType: one(headers['content-type']) ?? 'application/octet-stream',
    sizeBytes: bytes.length,
    bytes,
    ...(Number.isFinite(stale) ? { staleSeconds: stale } : {}),
  };
}

function one(value: string | string[] | undefined): string | undefined {
  return Array.isArray(value) ? value[0] : value;
}

/** True if none of those that were asked answered. */
function isNobody(error: unknown): boolean {
  return isSilence(error) || isCoded(error, 'NO_PEERS');
}
