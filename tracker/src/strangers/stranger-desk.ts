import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { logFailure, throwIfBug } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import type { Logger } from '@sepia/base/log';
import { type BlobName, linkKey } from '@sepia/base/names/blob-name';
import { infoHashOf, type TorrentFacts } from '@sepia/metainfo/torrent';
import { FRESH_MS, NEWS_MS, OPEN_MS, STALE_MS } from '../deadlines.ts';
import type { SwarmTable } from '../swarms/core/swarm-table.ts';
import type { Announce } from './core/announce-query.ts';
import type { PeerPlace, StrangerTable, SwarmCounts } from './core/stranger-table.ts';
import type { PeerPlaces } from './peer-places.ts';
import type { TorrentOrigins } from './torrent-origins.ts';

/** Torrents that are remembered; one that is forgotten is made again from its announce URL. */
const MAX_TORRENTS = 1_000;
/** Members of a handout, at most. */
const MAX_MEMBERS = 30;

/** A torrent that strangers may take part in. */
interface OpenTorrent {
  readonly name: BlobName;
  readonly infoHash: string;
  readonly sizeBytes: number;
  /** Until when the torrent is open although no client announces. */
  freshUntilMs: number;
  /** When origins last allowed it, and were last asked. */
  allowedAtMs: number;
  askedAtMs: number;
  /** Origins that seed it to strangers. */
  originIds: readonly string[];
  asking: Promise<void> | undefined;
  /** Somebody came who wants pieces: origins hear of it soon. */
  hasNews: boolean;
  /** Agents that were told, by node id: until when. */
  readonly told: Map<string, number>;
}

/** What members are told of a torrent, so that they deal with its strangers. */
export interface ToldTorrent {
  readonly digest: Digest;
  readonly infoHash: string;
  readonly ttlMs: number;
}

interface DeskDeps {
  readonly origins: TorrentOrigins;
  readonly table: SwarmTable;
  readonly strangers: StrangerTable;
  readonly places: PeerPlaces;
  readonly originAddresses: (originId: string) => readonly string[];
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly intervalMs: number;
}

/**
 * Brings standard clients and members together: which torrents are open, who announced itself, which members were told.
 * Origins decide whether strangers may have a blob, again every 20 s; they and the agents let nobody in by themselves.
 */
export class StrangerDesk {
  readonly #deps: DeskDeps;
  /** By infohash. */
  readonly #torrents = new LatestMap<string, OpenTorrent>(MAX_TORRENTS);

  constructor(deps: DeskDeps) {
    this.#deps = deps;
  }

  /** A blob as a torrent; its swarm is open from now on. @throws what the origins say: `AUTH_DENIED`, `BLOB_UNKNOWN` and the like */
  async torrent(name: BlobName, signal: AbortSignal): Promise<TorrentFacts> {
    const facts = await this.#deps.origins.facts(name, signal);
    this.#note(name, facts);
    return facts;
  }

  /**
   * A standard client announces itself; whom it may ask for pieces.
   * @throws as {@link torrent}; `REQUEST_INVALID` where the torrent is not one of ours
   */
  async announce(
    asked: Announce,
    named: BlobName | undefined,
    host: string,
    signal: AbortSignal,
  ): Promise<{ readonly counts: SwarmCounts; readonly peers: readonly PeerPlace[] }> {
    const { strangers, nowMs, intervalMs } = this.#deps;
    const torrent = await this.#find(asked.infoHash, named, signal);
    await this.#confirm(torrent);
    const keptMs = intervalMs * 2.5;
    const self = asked.port === undefined ? undefined : { host, port: asked.port };
    // Who takes no connections dials: nobody needs to know of it, but it needs the torrent open.
    if (self === undefined) torrent.freshUntilMs = Math.max(torrent.freshUntilMs, nowMs() + keptMs);
    else {
      const isNew = asked.event === 'started' || !strangers.has(asked.infoHash, self);
      torrent.hasNews ||= asked.left !== 0 && isNew;
      const peer = { ...self, peerId: asked.peerId, complete: asked.left === 0 };
      strangers.announce(asked.infoHash, peer, asked.event, nowMs(), keptMs);
    }
    const counts = this.counts(asked.infoHash);
    if (asked.event === 'stopped') return { counts, peers: [] };
    const members = await this.#members(torrent);
    const others = strangers.peers(asked.infoHash, Math.max(0, asked.numwant - members.length), self);
    return { counts, peers: [...members.slice(0, asked.numwant), ...others] };
  }

  /** Strangers, and the origins that seed to them. */
  counts(infoHash: string): SwarmCounts {
    const counts = this.#deps.strangers.counts(infoHash);
    const torrent = this.#torrents.get(infoHash);
    return { ...counts, complete: counts.complete + (torrent?.originIds.length ?? 0) };
  }

  /** For an agent that downloads a blob: its torrent and the strangers that take part. */
  forJoin(digest: Digest, nodeId: string): (ToldTorrent & { readonly addresses: string[] }) | undefined {
    for (const torrent of this.#openTorrents()) {
      if (torrent.name.digest !== digest) continue;
      const places = this.#deps.strangers.peers(torrent.infoHash, MAX_MEMBERS);
      return { ...this.#tell(torrent, nodeId), addresses: places.map(addressOf) };
    }
    return undefined;
  }

  /** For an agent that renews its lease: the torrents of what it has or downloads. */
  forNode(nodeId: string): ToldTorrent[] {
    const told: ToldTorrent[] = [];
    for (const torrent of this.#openTorrents())
      if (this.#deps.table.isIn(torrent.name.digest, nodeId)) told.push(this.#tell(torrent, nodeId));
    return told;
  }

  /** Forgets who is silent, and asks the origins again where strangers take part; called every second. */
  tick(): void {
    const { strangers, nowMs, log } = this.#deps;
    strangers.expire(nowMs());
    for (const torrent of this.#openTorrents()) {
      for (const [nodeId, untilMs] of torrent.told) if (untilMs <= nowMs()) torrent.told.delete(nodeId);
      this.#confirm(torrent).catch((error: unknown) =>
        logFailure(log, error, 'a torrent is closed', { digest: torrent.name.digest }, 'debug'),
      );
    }
  }

  *#openTorrents(): Generator<OpenTorrent> {
    const nowMs = this.#deps.nowMs();
    for (const torrent of this.#torrents.values())
      if (torrent.freshUntilMs > nowMs || this.#deps.strangers.isLive(torrent.infoHash)) yield torrent;
  }

  #note(name: BlobName, facts: TorrentFacts): OpenTorrent {
    const nowMs = this.#deps.nowMs();
    const infoHash = infoHashOf(facts);
    const known = this.#torrents.get(infoHash);
    const torrent: OpenTorrent =
      known !== undefined && linkKey(known.name) === linkKey(name)
        ? known
        : {
            name,
            infoHash,
            sizeBytes: facts.sizeBytes,
            freshUntilMs: 0,
            allowedAtMs: nowMs,
            askedAtMs: Number.NEGATIVE_INFINITY,
            originIds: [],
            asking: undefined,
            hasNews: false,
            told: new Map(),
          };
    torrent.freshUntilMs = nowMs + FRESH_MS;
    torrent.allowedAtMs = nowMs;
    this.#torrents.set(infoHash, torrent);
    return torrent;
  }

  async #find(infoHash: string, named: BlobName | undefined, signal: AbortSignal): Promise<OpenTorrent> {
    const known = this.#torrents.get(infoHash);
    if (known !== undefined) return known;
    if (named === undefined)
      throw new CodedError('REQUEST_INVALID', {
        message: 'this tracker does not know the torrent; get its .torrent again',
      });
    const torrent = this.#note(named, await this.#deps.origins.facts(named, signal));
    if (torrent.infoHash === infoHash) return torrent;
    throw new CodedError('REQUEST_INVALID', {
      message: 'info_hash is not that of the blob which the announce URL names; get its .torrent again',
    });
  }

  /** Asks the origins to go on letting strangers in. @throws `AUTH_DENIED` and other certain refusals: it is closed then */
  async #confirm(torrent: OpenTorrent): Promise<void> {
    const { nowMs } = this.#deps;
    if (nowMs() - torrent.askedAtMs < (torrent.hasNews ? NEWS_MS : OPEN_MS / 3)) return;
    torrent.asking ??= this.#ask(torrent).finally(() => {
      torrent.asking = undefined;
    });
    await torrent.asking;
  }

  async #ask(torrent: OpenTorrent): Promise<void> {
    const { origins, strangers, nowMs } = this.#deps;
    try {
      torrent.hasNews = false;
      const addresses = strangers.leechers(torrent.infoHash, MAX_MEMBERS).map(addressOf);
      torrent.originIds = await origins.open(torrent.name, torrent.infoHash, OPEN_MS, addresses);
      torrent.askedAtMs = nowMs();
      if (torrent.originIds.length > 0) torrent.allowedAtMs = nowMs();
    } catch (error) {
      throwIfBug(error);
      const isSilent = isCoded(error) && error.facts.retryable;
      torrent.originIds = [];
      torrent.askedAtMs = nowMs();
      if (isSilent && nowMs() - torrent.allowedAtMs < STALE_MS) return;
      // It may be open by another link since: that one was not refused.
      if (this.#torrents.get(torrent.infoHash) === torrent) {
        this.#torrents.delete(torrent.infoHash);
        strangers.forget(torrent.infoHash);
      }
      throw error;
    }
  }

  #tell(torrent: OpenTorrent, nodeId: string): ToldTorrent {
    torrent.told.set(nodeId, this.#deps.nowMs() + OPEN_MS);
    return { digest: torrent.name.digest, infoHash: torrent.infoHash, ttlMs: OPEN_MS };
  }

  /** Origins that are open, and agents that were told and have pieces. */
  async #members(torrent: OpenTorrent): Promise<PeerPlace[]> {
    const { table, places, originAddresses, nowMs } = this.#deps;
    const nodes = table
      .handout(torrent.name.digest, { nodeId: '', addresses: [] }, MAX_MEMBERS)
      .filter(({ nodeId }) => (torrent.told.get(nodeId) ?? 0) > nowMs());
    const lists = [...torrent.originIds.map(originAddresses), ...nodes.map((node) => node.addresses)];
    // Each member by one address before any by a second: which of them a client reaches is not known here.
    const addresses = [
      ...lists.flatMap((list) => list.slice(0, 1)),
      ...lists.flatMap((list) => list.slice(1)),
    ];
    const found = await Promise.all(addresses.slice(0, MAX_MEMBERS).map(async (one) => await places.of(one)));
    return found.filter((place) => place !== undefined);
  }
}

function addressOf({ host, port }: PeerPlace): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
