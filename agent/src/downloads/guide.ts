import { askInTurn } from '@sepia/base/async/ask-many';
import { CodedError } from '@sepia/base/errors';
import { ignoreFailure, throwIfBug } from '@sepia/base/failure';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { JoinAnswer, PeerEntry } from '@sepia/cluster/api/join';
import { isDecisive } from '@sepia/cluster/core/answers';
import { AnswerPace } from '@sepia/http/answer-pace';
import type { BlobHolders } from '@sepia/http/bodies/core/source-order';
import type { MetainfoNews } from '@sepia/http/bodies/metainfo-follower';
import type { BlobSource } from '@sepia/http/bodies/remote-blob';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { pieceHash } from '@sepia/metainfo/tree';
import type { HttpSource } from '@sepia/swarm/swarm';
import type { CallWatch, Target } from '../cluster/members.ts';
import type { OriginClient, VouchedPiece } from '../cluster/origin-client.ts';
import type { TrackerClient } from '../cluster/tracker-client.ts';
import type { Wish } from '../cluster/wish.ts';
import {
  COMPLAINT_WAIT_MS,
  DIRECT_INTERVAL_MS,
  LEAST_DOUBT_MS,
  MOST_DOUBT_MS,
  POLL_MS,
} from '../deadlines.ts';
import type { Finding, Guide } from './guide-port.ts';
import { meetStrangers } from './meet-strangers.ts';

interface GuideDeps {
  readonly health: Pick<CallWatch, 'attend'>;
  readonly trackers: TrackerClient;
  readonly origins: OriginClient;
  readonly nodeId: string;
  readonly addresses: () => readonly string[];
  readonly zone: string | undefined;
}

/** What the cluster says of a blob: small (fetch it from these), or a swarm. */
export type Located =
  | { readonly kind: 'small'; readonly sizeBytes: number; readonly targets: readonly Target[] }
  | ({ readonly kind: 'swarm' } & Finding);

/** Finds a blob through its tracker, or straight at its owners when no tracker answers. */
export class ClusterGuide implements Guide {
  readonly #deps: GuideDeps;
  readonly #name: BlobName;
  #wish: Wish;
  /** Set while metainfo comes straight from an owner. */
  #direct: Target | undefined;
  /** Whom the tracker named, the holder or fetching leader first. */
  #holders: readonly Target[] = [];
  /** How fast hashes come. */
  readonly #newsPace = new AnswerPace();

  /** `wish`: what is to be fetched where the cluster does not have the blob. */
  constructor(deps: GuideDeps, name: BlobName, wish: Wish = { all: true }) {
    this.#deps = deps;
    this.#name = name;
    this.#wish = wish;
  }

  wantAll(): void {
    this.#wish = { all: true };
  }

  /** @throws a certain error (404 and the like), or `NO_PEERS`, `PEER_HTTP` when nobody answers */
  async locate(leeching: boolean, signal: AbortSignal): Promise<Located> {
    const { health, origins, trackers } = this.#deps;
    const all = [...trackers.targets(this.#name.digest), ...origins.targets(this.#name)];
    return await health.attend(all, async (running) => await this.#locate(leeching, running), signal);
  }

  async #locate(leeching: boolean, signal: AbortSignal): Promise<Located> {
    const { trackers, nodeId, addresses, zone } = this.#deps;
    const { digest, upstream, repository } = this.#name;
    const request = {
      nodeId,
      addresses: [...addresses()],
      upstream,
      repository,
      leeching,
      want: this.#wish.all ? ('all' as const) : ('ranges' as const),
      ...(this.#wish.piece === undefined ? {} : { piece: this.#wish.piece }),
      ...(zone === undefined ? {} : { zone }),
    };
    let answer: JoinAnswer;
    try {
      answer = await trackers.join(digest, request, signal);
    } catch (error) {
      throwIfBug(error);
      signal.throwIfAborted();
      if (isDecisive(error)) throw error;
      return await this.#locateDirect(signal);
    }
    this.#direct = undefined;
    if (answer.kind === 'small')
      return {
        kind: 'small',
        sizeBytes: answer.sizeBytes,
        targets: this.#deps.origins.ordered(answer.owners),
      };
    this.#holders = this.#deps.origins.ordered(answer.owners);
    const sources = this.#sources(this.#holders, answer.sizeBytes);
    const { peers, strangers } = answer;
    return {
      kind: 'swarm',
      metainfo: Metainfo.decode(Buffer.from(answer.metainfo, 'base64')),
      intervalMs: answer.intervalMs,
      introduce: (swarm) => {
        swarm.addPeers(peers.filter((peer) => peer.nodeId !== nodeId).map(peerAddress));
        swarm.setHttpSources(sources);
        if (strangers !== undefined) meetStrangers(swarm, strangers);
      },
    };
  }

  /**
   * Resolves when bytes that are here may be shown under this name. Where they came from its own upstream, that the
   * cluster has them under it is enough (`isOfUpstream`). Else the upstream must have sent all of them: one that only
   * knows the digest never brings an open blob to its end.
   * @throws as {@link locate}, and what ends the blob
   */
  async vouch(isOfUpstream: boolean, leeching: boolean, signal: AbortSignal): Promise<void> {
    const located = await this.locate(leeching, signal);
    if (isOfUpstream) return;
    if (located.kind === 'small') {
      await this.#deps.origins.small(this.#name, located.targets, signal);
      return;
    }
    let { metainfo } = located;
    let { etag } = metainfo;
    while (metainfo.state === 'open') {
      const news = await this.poll(metainfo, etag, signal);
      if (news === undefined) continue;
      etag = news.etag;
      if (metainfo.merge(news.metainfo) === 'replaced') metainfo = news.metainfo;
    }
  }

  async find(signal: AbortSignal): Promise<Finding> {
    const located = await this.locate(true, signal);
    if (located.kind === 'small') throw new CodedError('NO_PEERS', { message: 'blob shrank' });
    return located;
  }

  async poll(known: Metainfo, etag: string, signal: AbortSignal): Promise<MetainfoNews | undefined> {
    const { origins, trackers } = this.#deps;
    if (this.#direct !== undefined) return await origins.poll(this.#name, known, etag, this.#direct, signal);
    const askedMs = performance.now();
    const doubtMs = this.#newsPace.timeoutMs(LEAST_DOUBT_MS, MOST_DOUBT_MS);
    const news = await trackers.poll(this.#name, known, etag, { waitMs: POLL_MS, doubtMs }, signal);
    this.#newsPace.note(performance.now() - askedMs);
    return news;
  }

  async fetchedBytes(signal: AbortSignal): Promise<number> {
    return await this.#deps.origins.fetchedBytes(this.#name, signal);
  }

  async urge(
    span: { readonly sizeBytes: number; readonly index: number; readonly lastPiece: number },
    signal: AbortSignal,
  ): Promise<VouchedPiece | undefined> {
    const ask = async (target: Target): Promise<VouchedPiece | undefined> =>
      await this.#deps.origins.vouched(this.#name, span, target, signal);
    return await askInTurn(this.#targets(), ask, { signal });
  }

  /** One verified piece of a known blob from whoever owns it: repairs what rotted on disk. */
  async refetch(metainfo: Metainfo, index: number, signal: AbortSignal): Promise<Uint8Array> {
    const ask = async (target: Target): Promise<Uint8Array> => {
      const piece = await this.#deps.origins.piece(this.#name, metainfo.sizeBytes, index, target, signal);
      if (metainfo.matches(index, pieceHash(piece))) return piece;
      this.complain(index, target);
      throw new CodedError('PIECE_BAD', { detail: { piece: index, origin: target.id } });
    };
    return await askInTurn(this.#deps.origins.targets(this.#name), ask, { signal });
  }

  /** The origins, without a swarm: for a blob that is passed on and not kept. */
  source(): BlobSource {
    const { origins } = this.#deps;
    const name = this.#name;
    const target = (id: string): Target => {
      const found = this.#targets().find((one) => one.id === id);
      if (found === undefined) throw new CodedError('NO_PEERS', { message: `${id} is not asked any more` });
      return found;
    };
    return {
      find: async (signal) => this.holders((await this.find(signal)).metainfo),
      metainfo: async (_id, known, _waitMs, signal) =>
        known === undefined ? undefined : await this.poll(known.metainfo, known.etag, signal),
      wantAll: async (signal) => {
        this.wantAll();
        await this.find(signal);
      },
      leaves: async (id, first, count, signal) =>
        await origins.leaves(name, first, count, target(id), signal),
      range: async (id, start, end, signal) => await origins.range(name, start, end, target(id), signal),
      isDefinite: isDecisive,
      wrong: (id, piece) => this.complain(piece, target(id)),
    };
  }

  /** An origin passes a question on to whoever has the blob. */
  holders(metainfo: Metainfo): BlobHolders {
    return { ids: this.#targets().map((one) => one.id), areWhole: metainfo.state === 'final' };
  }

  #targets(): readonly Target[] {
    return this.#holders.length > 0 ? this.#holders : this.#deps.origins.targets(this.#name);
  }

  /** An origin sent a piece that does not match its hash: it looks at its copy. */
  complain(piece: number, target: Target): void {
    this.#deps.origins
      .complain(this.#name, piece, target, AbortSignal.timeout(COMPLAINT_WAIT_MS))
      .catch(ignoreFailure);
  }

  async #locateDirect(signal: AbortSignal): Promise<Located> {
    const { metainfo, target } = await this.#deps.origins.metainfo(this.#name, this.#wish, signal);
    this.#direct = target;
    const others = this.#deps.origins.targets(this.#name).filter((other) => other.id !== target.id);
    const sources = this.#sources([target, ...others], metainfo.sizeBytes);
    return {
      kind: 'swarm',
      metainfo,
      intervalMs: DIRECT_INTERVAL_MS,
      introduce: (swarm) => swarm.setHttpSources(sources),
    };
  }

  #sources(targets: readonly Target[], sizeBytes: number): HttpSource[] {
    return targets.map((target) => ({
      id: target.id,
      has: () => true,
      fetchPiece: (index, signal) => this.#deps.origins.piece(this.#name, sizeBytes, index, target, signal),
    }));
  }
}

function peerAddress({ peerId, addresses, origin, zone }: PeerEntry) {
  return { peerId, addresses, origin, ...(zone === undefined ? {} : { zone }) };
}
