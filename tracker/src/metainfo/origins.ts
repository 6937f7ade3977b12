import { answersOf, askAll } from '@sepia/base/async/ask-many';
import type { Digest } from '@sepia/base/digest';
import { isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { Reach } from '@sepia/base/reach';
import type { Where } from '@sepia/cluster/api/blob-answers';
import { H_HOP } from '@sepia/cluster/api/headers';
import type { PeerEntry } from '@sepia/cluster/api/join';
import { ORIGIN_BLOBS, ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import type { Cluster } from '@sepia/cluster/cluster';
import { allToldBy, hasHolder, toldBy, type Whereabouts } from '@sepia/cluster/core/where';
import { FIRST_ANSWER_MS } from '@sepia/cluster/deadlines';
import { candidatesOf } from '@sepia/cluster/ring';
import { AnswerPace } from '@sepia/http/answer-pace';
import { FILLED } from '@sepia/http/app';
import type { InternalClient } from '@sepia/http/client';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { LEAST_SILENCE_MS, METAINFO_MS, MOST_SILENCE_MS, POLL_BODY_MS, POLL_MS } from '../deadlines.ts';
import { Words } from './words.ts';

/** What is wanted of a blob that the cluster does not have yet: all of it, or what is read, first that piece. */
export interface Wish {
  readonly all: boolean;
  readonly piece?: number | undefined;
}

interface Doubted {
  readonly id: string;
  readonly graceMs: (othersMs: number) => number;
}

/** What the tracker asks of origins. */
export class Origins {
  readonly #cluster: Cluster;
  readonly #client: InternalClient;
  /** How fast origins answer what needs no thought. */
  readonly pace = new AnswerPace();
  readonly #words: Words;

  constructor(deps: { readonly cluster: Cluster; readonly client: InternalClient }) {
    this.#cluster = deps.cluster;
    this.#client = deps.client;
    this.#words = new Words({ client: deps.client, url: (id) => this.url(id), pace: this.pace });
  }

  /** Ids of those that could hold the blob (owners, then stand-ins), and of the owners. */
  candidates(digest: Digest): { ids: readonly string[]; ownerIds: readonly string[] } {
    const placement = this.#cluster.origins(digest);
    return { ids: candidatesOf(placement), ownerIds: placement.owners };
  }

  url(originId: string): string {
    return this.#cluster.member(originId).urls[0]!;
  }

  /** Asks one origin after the other whether it lives, until one does: what `/readyz` says of this tracker. */
  async look(reach: Pick<Reach, 'answered' | 'failed'>, signal: AbortSignal): Promise<void> {
    for (const { id, urls } of this.#cluster.members('origin')) {
      try {
        const until = AbortSignal.any([signal, AbortSignal.timeout(MOST_SILENCE_MS)]);
        const asked = { ...to(ORIGIN_RECORDS.cluster), headers: FILLED };
        const call = { url: urls[0]!, to: id, ...asked, signal: until };
        await this.#client.bytes({ ...call, headersTimeoutMs: MOST_SILENCE_MS });
        return reach.answered();
      } catch (error) {
        throwIfBug(error);
        if (signal.aborted) return;
        const kind = isCoded(error, 'SIGNATURE_INVALID') ? 'refused' : 'silent';
        reach.failed(id, kind, (error as Error).message, performance.now());
      }
    }
  }

  /**
   * Asks all candidates at once; resolves early as soon as one has the whole blob. `doubted`: one that may hang; once all others
   * have said what they have, it has `graceMs` more, by how long they took.
   */
  async where(name: BlobName, signal: AbortSignal, doubted?: Doubted): Promise<Whereabouts[]> {
    const { ids } = this.candidates(name.digest);
    const ask = async (originId: string): Promise<Whereabouts> => {
      const leastMs = originId === doubted?.id ? MOST_SILENCE_MS : LEAST_SILENCE_MS;
      return await this.whereAt(originId, name, leastMs, signal);
    };
    const askedMs = performance.now();
    const said = await askAll(ids, ask, {
      isEnough: (so) => {
        if (hasHolder(answersOf(so))) return true;
        const isLast = doubted !== undefined && so.length === ids.length - 1;
        if (!isLast || so.some(({ by }) => by === doubted.id)) return false;
        return doubted.graceMs(performance.now() - askedMs);
      },
    });
    if (!signal.aborted && answersOf(said).length === 0) this.pace.missed();
    return allToldBy(said);
  }

  /** Asks one what it has. `leastMs`: it has so long at least. @throws its silence, or what it refuses with */
  async whereAt(
    originId: string,
    name: BlobName,
    leastMs: number,
    signal: AbortSignal,
  ): Promise<Whereabouts> {
    const told = await this.#words.ask(originId, name, leastMs, signal);
    if (told !== null && told !== 'same') return toldBy(originId, told);
    const timeoutMs = this.pace.timeoutMs(leastMs, MOST_SILENCE_MS);
    const startedMs = performance.now();
    const answer = await this.#client.json<Where>({
      url: this.url(originId),
      to: originId,
      ...to(ORIGIN_BLOBS.where, name),
      headersTimeoutMs: timeoutMs,
      bodyTimeoutMs: timeoutMs,
      signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
    });
    this.pace.note(performance.now() - startedMs);
    return toldBy(originId, answer);
  }

  /** Metainfo of a blob; `fetch` makes the origin the leader if it has nothing. Also the proof that the link exists. */
  async metainfo(
    originId: string,
    name: BlobName,
    fetch: boolean,
    wish: Wish,
    signal: AbortSignal,
  ): Promise<Metainfo> {
    const { bytes } = await this.#client.bytes({
      url: this.url(originId),
      to: originId,
      ...to(ORIGIN_BLOBS.metainfo, { ...name, ...wished(wish), fetch }),
      headersTimeoutMs: fetch ? FIRST_ANSWER_MS.origin : METAINFO_MS,
      lasts: fetch ? 'wait' : undefined,
      signal,
    });
    return Metainfo.decode(bytes);
  }

  /**
   * Whether link and blob are at one that holds the whole blob as they were: the metainfo that it has, `known` itself where
   * that is the same. It is not to ask another: who has the blob no more says so.
   */
  async word(originId: string, name: BlobName, known: Metainfo, signal: AbortSignal): Promise<Metainfo> {
    const { etag } = known;
    if ((await this.#words.ask(originId, { ...name, etag }, LEAST_SILENCE_MS, signal)) === 'same')
      return known;
    const { bytes, status } = await this.#client.bytes({
      url: this.url(originId),
      to: originId,
      ...to(ORIGIN_BLOBS.metainfo, { ...name, ...wished({ all: false }) }),
      headers: { 'if-none-match': etag, [H_HOP]: '1' },
      headersTimeoutMs: METAINFO_MS,
      bodyTimeoutMs: METAINFO_MS,
      signal,
    });
    return status === 304 ? known : Metainfo.decode(bytes);
  }

  /** Waits for news of an open blob; undefined when there was none within {@link POLL_MS}. Silence ends it after `goneMs`. */
  async poll(
    originId: string,
    name: BlobName,
    known: Metainfo,
    wish: Wish,
    goneMs: number,
    signal: AbortSignal,
  ): Promise<Metainfo | undefined> {
    const asked = { ...name, ...wished(wish), wait: POLL_MS, from: known.knownPrefix };
    const { bytes, status } = await this.#client.bytes({
      url: this.url(originId),
      to: originId,
      ...to(ORIGIN_BLOBS.metainfo, asked),
      headers: { 'if-none-match': known.etag },
      headersTimeoutMs: goneMs,
      bodyTimeoutMs: POLL_BODY_MS,
      lasts: 'wait',
      signal,
    });
    return status === 304 ? undefined : Metainfo.decode(bytes);
  }

  /** Hands an open attempt to a new leader, with the agents that hold pieces of it. */
  async adopt(
    originId: string,
    name: BlobName,
    known: Metainfo,
    peers: readonly PeerEntry[],
    wish: Wish,
    signal: AbortSignal,
  ): Promise<Metainfo> {
    const body = JSON.stringify({ metainfo: Buffer.from(known.encode()).toString('base64'), peers });
    const { bytes } = await this.#client.bytes({
      url: this.url(originId),
      to: originId,
      ...to(ORIGIN_BLOBS.adopt, { ...name, ...wished(wish) }),
      body,
      headers: { 'content-type': 'application/json' },
      headersTimeoutMs: FIRST_ANSWER_MS.origin,
      signal,
    });
    return Metainfo.decode(bytes);
  }
}

function wished({ all, piece }: Wish): { want: 'all' | 'ranges'; piece: number | undefined } {
  return { want: all ? 'all' : 'ranges', piece };
}
