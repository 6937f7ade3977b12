import { Readable } from 'node:stream';
import { Bitfield } from '@sepia/base/bitfield';
import { CodedError } from '@sepia/base/errors';
import { silentLogger } from '@sepia/base/log';
import { peerIdHexOf, peerIdOf } from '@sepia/base/names/peer-id';
import { type JoinAnswer, type PeerEntry, SMALL_BLOB_BYTES } from '@sepia/cluster/api/join';
import type { InternalRequest, InternalResponse } from '@sepia/http/client';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import type { Chance } from '@sepia/swarm/core/random';
import { SwarmEngine } from '@sepia/swarm/shell/engine';
import type { SwarmNet } from '@sepia/swarm/shell/net';
import type { PieceStore } from '@sepia/swarm/swarm';
import { bodyOf, type Content, json, type Truth, wait } from '../../../proxy/test/support/answers.ts';
import { FaultyOrigins, type Weather } from '../../../proxy/test/support/faulty-origins.ts';

export const CLUSTER_KEY = new Uint8Array(32).fill(7);
const FOREVER_MS = 1_000_000;
/** Of `InternalClient`, where a call names none. */
const BODY_TIMEOUT_MS = 30_000;

/** What a cluster of a run has beside its origins. */
interface ClusterFacts {
  readonly weather: Weather;
  /** Other nodes that seed the blob. */
  readonly peers: readonly PeerEntry[];
  /** From this time of the run on nobody answers, in ms. */
  readonly deadAfterMs: number;
  readonly manifest: Content;
}

/** A whole cluster as an agent sees it: trackers, proxies and origins, each with seeded faults. */
export class FaultyCluster extends FaultyOrigins {
  readonly #truth: Truth;
  readonly #facts: ClusterFacts;
  readonly #chance: Chance;
  readonly #deadAtMs: number;

  constructor(truth: Truth, facts: ClusterFacts, chance: Chance) {
    super(truth, facts.weather, chance, facts.manifest);
    this.#truth = truth;
    this.#facts = facts;
    this.#chance = chance;
    this.#deadAtMs = Date.now() + facts.deadAfterMs;
  }

  /** As the client that ships: headers and bytes that are silent for too long are given up. */
  override async raw(request: InternalRequest): Promise<InternalResponse> {
    const late = new AbortController();
    const giveUp = (): void => late.abort(new CodedError('PEER_HTTP', { message: 'no answer in time' }));
    const { headersTimeoutMs, bodyTimeoutMs = BODY_TIMEOUT_MS } = request;
    const signal = AbortSignal.any([late.signal, ...(request.signal === undefined ? [] : [request.signal])]);
    const timer = setTimeout(giveUp, headersTimeoutMs);
    try {
      const answer = await this.#answer({ ...request, signal });
      const body = watched(answer.body, bodyTimeoutMs, giveUp);
      return { ...answer, body: bodyOf(Readable.from(body, { objectMode: true })) };
    } finally {
      clearTimeout(timer);
    }
  }

  async #answer(request: InternalRequest): Promise<InternalResponse> {
    if (Date.now() >= this.#deadAtMs) {
      const isSilent = this.#chance.next() < 0.3;
      await wait(isSilent ? request.headersTimeoutMs : this.#chance.below(20), request.signal);
      throw new CodedError('PEER_HTTP', { message: 'nobody is there' });
    }
    if (!request.url.includes('tracker')) return await super.raw(request);
    const dice = this.#facts.weather.timing ? this.#chance.below(12) : 12;
    if (dice === 0) await wait(FOREVER_MS, request.signal);
    if (dice === 1) throw new CodedError('PEER_HTTP', { message: 'reset' });
    if (request.path.includes('/join')) return json(this.#join());
    const path = request.path.replace('/v1/swarms/', '/v1/blobs/');
    const origin = this.cluster.member(this.cluster.origins(this.#truth.digest).owners[0]!);
    return await super.raw({ ...request, path, url: origin.urls[0]!, to: origin.id });
  }

  #join(): JoinAnswer {
    const sizeBytes = this.#truth.bytes.length;
    const owners = this.cluster
      .origins(this.#truth.digest)
      .owners.map((id) => ({ id, urls: [...this.cluster.member(id).urls] }));
    if (sizeBytes <= SMALL_BLOB_BYTES) return { kind: 'small', sizeBytes, owners };
    const metainfo = Buffer.from(this.known().encode()).toString('base64');
    return { kind: 'swarm', sizeBytes, metainfo, owners, peers: this.#facts.peers, intervalMs: 1_000 };
  }
}

/** A body whose silence is given up; the time that its reader takes is none. */
async function* watched(
  body: InternalResponse['body'],
  silentMs: number,
  giveUp: () => void,
): AsyncGenerator<Uint8Array> {
  const chunks = (body as AsyncIterable<Uint8Array>)[Symbol.asyncIterator]();
  try {
    for (;;) {
      const timer = setTimeout(giveUp, silentMs);
      const { value, done } = await chunks.next().finally(() => clearTimeout(timer));
      if (done === true) return;
      yield value;
    }
  } finally {
    body.destroy();
  }
}

/** A blob at another node: some pieces are wrong, late or cannot be read, as chance has it. */
class FaultyPieces implements PieceStore {
  readonly have: Bitfield;
  readonly #truth: Truth;
  readonly #chance: Chance;
  readonly #isHonest: boolean;

  constructor(truth: Truth, chance: Chance) {
    this.#truth = truth;
    this.#chance = chance;
    this.have = Bitfield.full(truth.hashes.length);
    this.#isHonest = chance.next() < 0.4;
  }

  async readPiece(index: number, offset: number, length: number): Promise<Uint8Array> {
    const start = index * PIECE_BYTES + offset;
    const bytes = Buffer.from(this.#truth.bytes.subarray(start, start + length));
    const dice = this.#isHonest ? 9 : this.#chance.below(10);
    if (dice === 0) bytes[this.#chance.below(bytes.length)]! ^= 1;
    if (dice === 1) throw new CodedError('DISK_CORRUPT', { message: 'cannot be read' });
    if (dice === 2) await wait(this.#chance.below(4_000), undefined);
    return bytes;
  }

  writePiece(): Promise<void> {
    return Promise.resolve();
  }
}

/** Another node of the cluster that seeds the blob. */
export async function seeder(
  id: string,
  truth: Truth,
  net: SwarmNet,
  chance: Chance,
): Promise<{ readonly entry: PeerEntry; readonly engine: SwarmEngine }> {
  const peerId = peerIdOf(id);
  const engine = new SwarmEngine({ clusterKey: CLUSTER_KEY, peerId, log: silentLogger(), net });
  const address = `${id}.example:7001`;
  await engine.listen(address);
  engine.join({
    digest: truth.digest,
    metainfo: Metainfo.final(truth.digest, truth.bytes.length, Buffer.concat(truth.hashes)),
    pieces: new FaultyPieces(truth, chance),
    leech: false,
  });
  const entry = {
    peerId: peerIdHexOf(id),
    nodeId: id,
    addresses: [address],
    origin: false,
  };
  return { entry, engine };
}
