import { answersOf, askAll, firstAnswer } from '@sepia/base/async/ask-many';
import { digestAlgorithm, digestOf } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import { H_ATTEMPT, H_BLOB_SIZE, H_PIECE_HASH } from '@sepia/cluster/api/headers';
import { type OwnerEntry, SMALL_BLOB_BYTES } from '@sepia/cluster/api/join';
import { ORIGIN_BLOBS, ORIGIN_NAMES } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import type { Cluster } from '@sepia/cluster/cluster';
import { isDecisive } from '@sepia/cluster/core/answers';
import { COMPLAINT_MS, FIRST_ANSWER_MS } from '@sepia/cluster/deadlines';
import type { MetainfoNews } from '@sepia/http/bodies/metainfo-follower';
import { answeredRange, type RangeBody } from '@sepia/http/bodies/range-stream';
import { type InternalClient, readLimited } from '@sepia/http/client';
import { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceHash, pieceLength } from '@sepia/metainfo/tree';
import {
  ASK_AFTER_MS,
  HEDGE_MS,
  PIECE_BODY_MS,
  PIECE_MS,
  POLL_ANSWER_MS,
  POLL_MS,
  WHERE_MS,
} from '../deadlines.ts';
import { type CallWatch, originsOf, type Target, targetsOf } from './members.ts';
import { newsOf } from './tracker-client.ts';
import type { Wish } from './wish.ts';

/** A piece as the fetching origin vouches for it; its bytes, if given, match `hash`. */
export interface VouchedPiece {
  readonly attempt: string;
  readonly hash: Buffer;
  readonly bytes?: Uint8Array;
}

/** Calls to origins: the HTTP source beside peers. */
export class OriginClient {
  readonly #cluster: Cluster;
  readonly #client: InternalClient;
  readonly #health: CallWatch;

  constructor(deps: {
    readonly cluster: Cluster;
    readonly client: InternalClient;
    readonly health: CallWatch;
  }) {
    this.#cluster = deps.cluster;
    this.#client = deps.client;
    this.#health = deps.health;
  }

  /** Owners and stand-ins of a digest, healthy ones first. */
  targets(name: BlobName): Target[] {
    return originsOf(this.#cluster, this.#health, name.digest);
  }

  /** Healthy ones of those that a tracker named, first. */
  ordered(owners: readonly OwnerEntry[]): Target[] {
    return this.#health.order(
      owners.map(({ id, urls }) => ({ id, url: urls[0] ?? '' })).filter((target) => target.url !== ''),
    );
  }

  /**
   * A whole small blob, its digest checked. @throws `UPSTREAM_LIES` when every origin sends wrong bytes, `SIZE_MISMATCH` for one
   * that is not small
   */
  async small(name: BlobName, targets: readonly Target[], signal: AbortSignal): Promise<Buffer> {
    const ask = (target: Target, abort: AbortSignal): Promise<Buffer> =>
      this.#health.watch(
        target,
        FIRST_ANSWER_MS.agent,
        async () => {
          const answer = await this.#client.call({
            url: target.url,
            to: target.id,
            method: 'GET',
            path: to(ORIGIN_BLOBS.blob, name).path,
            headersTimeoutMs: FIRST_ANSWER_MS.agent,
            lasts: 'body',
            signal: abort,
          });
          const found = Number(answer.headers['content-length'] ?? 0);
          if (found > SMALL_BLOB_BYTES) {
            answer.body.on('error', () => undefined).destroy();
            throw new CodedError('SIZE_MISMATCH', { detail: { digest: name.digest, found } });
          }
          const bytes = await readLimited(answer.body, SMALL_BLOB_BYTES, target.url);
          if (digestOf(bytes, digestAlgorithm(name.digest)) !== name.digest)
            throw new CodedError('UPSTREAM_LIES', { detail: { digest: name.digest, origin: target.id } });
          return bytes;
        },
        ASK_AFTER_MS,
      );
    const isFinal = (error: unknown): boolean => isDecisive(error) || isCoded(error, 'SIZE_MISMATCH');
    return await this.#first(targets, ask, { hedgeAfterMs: HEDGE_MS, signal, isFinal });
  }

  /** One piece, unchecked: the caller has the metainfo. */
  async piece(
    name: BlobName,
    sizeBytes: number,
    index: number,
    target: Target,
    signal: AbortSignal,
  ): Promise<Buffer> {
    const start = index * PIECE_BYTES;
    const length = pieceLength(sizeBytes, index);
    return await this.#health.watch(target, PIECE_MS, async () => {
      const { bytes } = await this.#client.bytes(
        {
          url: target.url,
          to: target.id,
          method: 'GET',
          path: to(ORIGIN_BLOBS.blob, name).path,
          headers: { range: `bytes=${start}-${start + length - 1}` },
          headersTimeoutMs: PIECE_MS,
          bodyTimeoutMs: PIECE_BODY_MS,
          lasts: 'body',
          signal,
        },
        PIECE_BYTES,
      );
      if (bytes.length !== length)
        throw new CodedError('SIZE_MISMATCH', { detail: { expected: length, found: bytes.length } });
      return bytes;
    });
  }

  /** Leaf hashes of `count` pieces from `first` on, as far as the origin has them; unchecked. */
  async leaves(
    name: BlobName,
    first: number,
    count: number,
    target: Target,
    signal: AbortSignal,
  ): Promise<Buffer> {
    const call = {
      url: target.url,
      to: target.id,
      ...to(ORIGIN_BLOBS.leaves, { ...name, from: first, count }),
      headersTimeoutMs: PIECE_MS,
      lasts: 'wait',
      signal,
    } as const;
    return await this.#health.watch(
      target,
      PIECE_MS,
      async () => (await this.#client.bytes(call, PIECE_BYTES)).bytes,
    );
  }

  /** Bytes `start` to `end` as they come; unchecked. */
  async range(
    name: BlobName,
    start: number,
    end: number,
    target: Target,
    signal: AbortSignal,
  ): Promise<RangeBody> {
    const answer = await this.#health.watch(target, PIECE_MS, () =>
      this.#client.call({
        url: target.url,
        to: target.id,
        method: 'GET',
        path: to(ORIGIN_BLOBS.blob, name).path,
        headers: { range: `bytes=${start}-${end}` },
        headersTimeoutMs: PIECE_MS,
        lasts: 'body',
        signal,
      }),
    );
    return answeredRange(answer, { start, end }, target.id);
  }

  /** Tells an origin that a piece which it sent does not match its hash. */
  async complain(name: BlobName, index: number, target: Target, signal: AbortSignal): Promise<void> {
    const call = {
      url: target.url,
      to: target.id,
      ...to(ORIGIN_BLOBS.complaints, { digest: name.digest, piece: index }),
      headersTimeoutMs: COMPLAINT_MS,
      signal,
    } as const;
    await this.#client.bytes(call);
  }

  /**
   * A piece whose hash is not known here: the fetching origin takes it out of order and vouches for it. Checked against
   * that hash; without bytes where another member has it already. `lastPiece`: how far will be read.
   * @throws `PIECE_BAD`, `PEER_HTTP` for an answer that is none, and as {@link piece}
   */
  async vouched(
    name: BlobName,
    span: { readonly sizeBytes: number; readonly index: number; readonly lastPiece: number },
    target: Target,
    signal: AbortSignal,
  ): Promise<VouchedPiece> {
    const { index, lastPiece, sizeBytes } = span;
    return await this.#health.watch(
      target,
      FIRST_ANSWER_MS.upstream,
      async () => {
        const { bytes, headers } = await this.#client.bytes(
          {
            url: target.url,
            to: target.id,
            ...to(ORIGIN_BLOBS.piece, { ...name, index, last: lastPiece }),
            headersTimeoutMs: FIRST_ANSWER_MS.upstream,
            bodyTimeoutMs: PIECE_BODY_MS,
            lasts: 'wait',
            signal,
          },
          PIECE_BYTES,
        );
        const hash = headers[H_PIECE_HASH];
        const attempt = headers[H_ATTEMPT];
        if (typeof hash !== 'string' || !/^[0-9a-f]{64}$/.test(hash) || typeof attempt !== 'string')
          throw new CodedError('PEER_HTTP', {
            message: 'piece without its hash',
            detail: { origin: target.id },
          });
        const piece = { hash: Buffer.from(hash, 'hex'), attempt };
        if (bytes.length === 0) return piece;
        if (bytes.length !== pieceLength(sizeBytes, index) || !piece.hash.equals(pieceHash(bytes)))
          throw new CodedError('PIECE_BAD', { detail: { piece: index, origin: target.id } });
        return { ...piece, bytes };
      },
      ASK_AFTER_MS,
    );
  }

  /** Size of a blob, asked without a download. */
  async sizeBytes(name: BlobName, signal: AbortSignal): Promise<number> {
    const ask = async (target: Target, abort: AbortSignal): Promise<number> =>
      await this.#health.watch(target, HEDGE_MS * 4, async () => {
        const answer = await this.#client.raw({
          url: target.url,
          to: target.id,
          method: 'HEAD',
          path: to(ORIGIN_BLOBS.blob, name).path,
          headersTimeoutMs: FIRST_ANSWER_MS.agent,
          signal: abort,
        });
        await answer.body.dump();
        if (answer.status === 404) throw new CodedError('BLOB_UNKNOWN', { detail: { digest: name.digest } });
        const size = Number(answer.headers[H_BLOB_SIZE] ?? answer.headers['content-length']);
        if (answer.status >= 400 || !Number.isSafeInteger(size))
          throw new CodedError('PEER_HTTP', { detail: { status: answer.status, url: target.url } });
        return size;
      });
    return await this.#first(this.targets(name), ask, {
      hedgeAfterMs: HEDGE_MS,
      signal,
      isFinal: isDecisive,
    });
  }

  /** What upstreams sent to the origins that are fetching the blob now, in bytes; silence counts as nothing. */
  async fetchedBytes(name: BlobName, signal: AbortSignal): Promise<number> {
    const ask = async (target: Target): Promise<number> => {
      const call = { url: target.url, to: target.id, ...to(ORIGIN_BLOBS.where, name) };
      const { fetchedBytes } = await this.#client.json<{ fetchedBytes?: unknown }>({
        ...call,
        headersTimeoutMs: WHERE_MS,
        signal,
      });
      return Number.isSafeInteger(fetchedBytes) ? Number(fetchedBytes) : 0;
    };
    return answersOf(await askAll(this.targets(name), ask)).reduce((sum, bytes) => sum + bytes, 0);
  }

  /** Metainfo straight from an owner, when no tracker answers. Makes it fetch the blob if nobody has it. */
  async metainfo(
    name: BlobName,
    wish: Wish,
    signal: AbortSignal,
  ): Promise<{ metainfo: Metainfo; target: Target }> {
    const ask = async (target: Target, abort: AbortSignal): Promise<{ metainfo: Metainfo; target: Target }> =>
      await this.#health.watch(target, HEDGE_MS * 4, async () => {
        const asked = { ...name, fetch: true, want: wish.all ? 'all' : 'ranges', piece: wish.piece };
        const { bytes } = await this.#client.bytes({
          url: target.url,
          to: target.id,
          ...to(ORIGIN_BLOBS.metainfo, asked),
          headersTimeoutMs: FIRST_ANSWER_MS.agent,
          lasts: 'wait',
          signal: abort,
        });
        return { metainfo: Metainfo.decode(bytes), target };
      });
    return await this.#first(this.targets(name), ask, {
      hedgeAfterMs: HEDGE_MS * 2,
      signal,
      isFinal: isDecisive,
    });
  }

  /** As the tracker's poll, at an origin. */
  async poll(
    name: BlobName,
    known: Metainfo,
    etag: string,
    target: Target,
    signal: AbortSignal,
  ): Promise<MetainfoNews | undefined> {
    const { bytes, status, headers } = await this.#client.bytes({
      url: target.url,
      to: target.id,
      ...to(ORIGIN_BLOBS.metainfo, { ...name, wait: POLL_MS, from: known.knownPrefix }),
      headers: { 'if-none-match': etag },
      headersTimeoutMs: POLL_ANSWER_MS,
      lasts: 'wait',
      signal,
    });
    return status === 304 ? undefined : newsOf(bytes, headers['etag']);
  }

  /** A manifest when no proxy answers. */
  async manifest(
    upstream: string,
    repository: string,
    reference: string,
    method: 'GET' | 'HEAD',
    targetIds: readonly string[],
    signal: AbortSignal,
  ) {
    const { path } = to(ORIGIN_NAMES.manifest, { upstream, repository, reference });
    const targets = this.#health.order(targetsOf(this.#cluster, targetIds));
    const ask = (target: Target, abort: AbortSignal) =>
      this.#health.watch(target, HEDGE_MS * 4, () =>
        this.#client.bytes({
          url: target.url,
          to: target.id,
          method,
          path,
          headersTimeoutMs: FIRST_ANSWER_MS.agent,
          signal: abort,
        }),
      );
    return await this.#first(targets, ask, { hedgeAfterMs: HEDGE_MS * 2, signal, isFinal: isDecisive });
  }

  /** The first answer; it is waited for while any of `targets` gives a sign of life. */
  async #first<T>(
    targets: readonly Target[],
    ask: (target: Target, signal: AbortSignal) => Promise<T>,
    { signal, ...how }: Parameters<typeof firstAnswer<Target, T>>[2] & { readonly signal: AbortSignal },
  ): Promise<T> {
    const run = async (running: AbortSignal): Promise<T> =>
      await firstAnswer(targets, ask, { ...how, signal: running });
    return await this.#health.attend(targets, run, signal);
  }
}
