import { LinkedAbort } from '@sepia/base/async/linked-abort';
import { SingleFlight } from '@sepia/base/async/single-flight';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { logFailure, outcomeOf, throwIfBug } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import { delay } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import { parseRepositoryName } from '@sepia/base/names/repository';
import { H_HOP } from '@sepia/cluster/api/headers';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { readLimited } from '@sepia/http/client';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import { PIECE_BYTES, pieceHash, pieceLength } from '@sepia/metainfo/tree';
import type { BlobStore } from '@sepia/store/blob-store';
import type { RotCounts } from '@sepia/store/rot/rot-metrics';
import type { Provenance } from '@sepia/store/sidecar';
import type { Members } from '../cluster/members.ts';
import {
  REPAIR_HOPELESS_MS,
  REPAIR_PIECE_MS,
  REPAIR_RETRY_MS,
  REPAIR_TOLD_MS,
} from '../deadlines/members.ts';
import type { Upstreams } from '../upstream/upstreams.ts';

/** Pieces that are looked at because somebody complained, at once; further complaints are dropped. */
const MAX_LOOKS = 8;
const MAX_HOPELESS = 10_000;

/** A search for a right copy of a piece that found none. */
interface Hopeless {
  readonly sinceMs: number;
  readonly error: CodedError;
}

interface RepairDeps {
  readonly members: Members;
  readonly store: BlobStore;
  readonly upstreams: Upstreams;
  readonly log: Logger;
  readonly nowMs: () => number;
  /** Tells of pieces that were found damaged, of those that were mended on disk, and of those that were not. */
  readonly rot: Pick<RotCounts, 'onRotten' | 'onMended' | 'onUnmended'>;
}

/**
 * Mends pieces that rotted on disk: a right copy comes from another origin or the upstream and is written over the
 * damaged one. The blob stays where it is all the while, so that a failed mend loses nothing.
 */
export class Repair {
  readonly #deps: RepairDeps;
  readonly #mending = new SingleFlight<string, Uint8Array>();
  readonly #looking = new Set<string>();
  /** Pieces for which no right copy was found, with time and error of the search. */
  readonly #hopeless = new LatestMap<string, Hopeless>(MAX_HOPELESS);
  readonly #stopped = new AbortController();

  readonly #mendMs: number;

  /** `mendMs`: how long sources are asked again and again for a right copy; a body in the middle is cut after as long. */
  constructor(deps: RepairDeps, options: { readonly mendMs: number }) {
    this.#deps = deps;
    this.#mendMs = options.mendMs;
    // Who is back may have a right copy.
    deps.members.onReturn(() => this.#hopeless.clear());
  }

  stop(): void {
    this.#stopped.abort(new CodedError('DRAINING'));
  }

  /**
   * A right copy of a damaged piece, which is on disk then, if the disk takes it; asked for at once it is fetched once. One
   * that nobody had just now is not waited for again, and for a while not even asked for.
   * @throws `NO_PEERS` when nobody has one, `BLOB_UNKNOWN` when the blob is gone meanwhile
   */
  async mend(digest: Digest, piece: number): Promise<Uint8Array> {
    const key = `${digest}/${piece}`;
    const told = this.#believed(key, REPAIR_TOLD_MS);
    if (told !== undefined) throw told.error;
    const patienceMs = this.#believed(key, REPAIR_HOPELESS_MS) === undefined ? this.#mendMs : 0;
    return await this.#mending.share(key, async () => {
      const { rot } = this.#deps;
      rot.onRotten();
      this.#deps.log.error({ digest, piece }, 'a piece is damaged on disk; mending it');
      try {
        const bytes = await this.#mend(digest, piece, patienceMs);
        this.#hopeless.delete(key);
        return bytes;
      } catch (error) {
        if (isCoded(error, 'NO_PEERS')) {
          this.#hopeless.set(key, { sinceMs: this.#deps.nowMs(), error });
          rot.onUnmended(digest, piece);
        }
        throw error;
      }
    });
  }

  /** The search that failed within `forMs`. If some source was silent it counts for less time: that source may have a copy. */
  #believed(key: string, forMs: number): Hopeless | undefined {
    const known = this.#hopeless.get(key);
    if (known === undefined) return undefined;
    const mostMs = known.error.detail['silent'] === true ? REPAIR_TOLD_MS : forMs;
    return this.#deps.nowMs() - known.sinceMs < Math.min(forMs, mostMs) ? known : undefined;
  }

  /** A read found damage (`DISK_CORRUPT`): mends that piece in the background. */
  noteRotten(digest: Digest, error: unknown): void {
    if (!isCoded(error, 'DISK_CORRUPT')) return;
    const { piece } = error.detail;
    if (typeof piece === 'number') this.lookBehind(digest, piece);
  }

  /** As {@link Repair.look}, without anybody who waits. */
  lookBehind(digest: Digest, piece?: number): void {
    this.look(digest, piece).catch((error: unknown) =>
      logFailure(this.#deps.log, error, 'looking for damage failed', { digest, piece }, 'error'),
    );
  }

  /**
   * Looks whether a piece here is damaged, and mends it: a receiver complained, or a reader that could not wait.
   * Without `piece`: the whole blob. Pieces that nobody had a right copy of just now are left out.
   */
  async look(digest: Digest, piece?: number): Promise<void> {
    const key = `${digest}/${piece ?? 'all'}`;
    if (this.#looking.has(key) || this.#looking.size >= MAX_LOOKS) return;
    this.#looking.add(key);
    try {
      await using handle = await this.#deps.store.open(digest);
      if (handle === undefined) return;
      const { pieceCount } = handle.metainfo();
      const [first, end] = piece === undefined ? [0, pieceCount] : [piece, Math.min(piece + 1, pieceCount)];
      for (let index = first; index < end; index++) {
        this.#stopped.signal.throwIfAborted();
        if (this.#believed(`${digest}/${index}`, REPAIR_HOPELESS_MS) !== undefined) continue;
        await handle.readPieceVerified(index).catch(async (error: unknown) => {
          if (!isCoded(error, 'DISK_CORRUPT')) throw error;
          await this.mend(digest, index);
        });
      }
    } catch (error) {
      throwIfBug(error);
      this.#deps.log.error({ digest, piece, err: error }, 'a damaged piece could not be mended');
    } finally {
      this.#looking.delete(key);
    }
  }

  async #mend(digest: Digest, piece: number, patienceMs: number): Promise<Uint8Array> {
    const { store, log, rot } = this.#deps;
    await using handle = await store.open(digest);
    if (handle === undefined) throw new CodedError('BLOB_UNKNOWN', { detail: { digest } });
    const bytes = await this.#rightCopy(handle.metainfo(), piece, handle.attrs.provenance, patienceMs);
    try {
      if (await store.mendPiece(digest, piece, bytes)) rot.onMended(digest, piece);
      log.info({ digest, piece }, 'a damaged piece was mended');
    } catch (error) {
      // Whoever waits gets it all the same.
      throwIfBug(error);
      rot.onUnmended(digest, piece);
      log.error({ digest, piece, err: error }, 'a damaged piece could not be written again');
    }
    return bytes;
  }

  async #rightCopy(
    metainfo: Metainfo,
    piece: number,
    provenance: readonly Provenance[],
    patienceMs: number,
  ): Promise<Uint8Array> {
    const untilMs = this.#deps.nowMs() + patienceMs;
    const { digest } = metainfo;
    for (;;) {
      let cause: unknown;
      let silent = false;
      for (const source of this.#sources(metainfo, piece, provenance)) {
        try {
          const bytes = await source();
          if (metainfo.matches(piece, pieceHash(bytes))) return bytes;
        } catch (error) {
          throwIfBug(error);
          silent ||= isNoAnswer(error);
          cause = error;
        }
      }
      if (this.#deps.nowMs() + REPAIR_RETRY_MS > untilMs)
        throw new CodedError('NO_PEERS', {
          message: `nobody ${silent ? 'who answers ' : ''}has a right copy of piece ${piece}`,
          detail: { digest, piece, ...(silent ? { silent } : {}) },
          cause,
        });
      await delay(REPAIR_RETRY_MS, this.#stopped.signal);
    }
  }

  /** Other origins and the upstream, under each name that the blob is known by. */
  #sources(
    { digest, sizeBytes }: Metainfo,
    piece: number,
    provenance: readonly Provenance[],
  ): (() => Promise<Uint8Array>)[] {
    const { members } = this.#deps;
    const start = piece * PIECE_BYTES;
    const range = { start, end: start + pieceLength(sizeBytes, piece) - 1 };
    const others = members.tries(digest).filter((id) => id !== members.selfId);
    return provenance.flatMap((name) => [
      ...others.map((id) => async () => await this.#fromOrigin(id, digest, name, range)),
      async () => await this.#fromUpstream(digest, name, range),
    ]);
  }

  async #fromOrigin(
    id: string,
    digest: Digest,
    name: Provenance,
    { start, end }: { readonly start: number; readonly end: number },
  ): Promise<Uint8Array> {
    const call = {
      ...to(ORIGIN_BLOBS.blob, { ...name, digest, 'as-is': true }),
      headers: { range: `bytes=${start}-${end}`, [H_HOP]: '1' },
      headersTimeoutMs: REPAIR_PIECE_MS,
      lasts: 'body',
    } as const;
    return await this.#inTime(async (signal) => {
      const { body } = await this.#deps.members.call(id, { ...call, signal });
      try {
        return await readLimited(body, PIECE_BYTES, id);
      } catch (cause) {
        // A body that is cut where the other's copy is damaged too is no silence of that origin.
        if (!isCoded(cause, 'PEER_HTTP')) throw cause;
        throw new CodedError('PIECE_BAD', { detail: { digest, origin: id }, cause });
      }
    });
  }

  async #fromUpstream(
    digest: Digest,
    name: Provenance,
    range: { readonly start: number; readonly end: number },
  ): Promise<Uint8Array> {
    const client = this.#deps.upstreams.blobs(name.upstream);
    if (client === undefined) throw new CodedError('NO_PEERS');
    const repository = parseRepositoryName(name.repository);
    return await this.#inTime(async (signal) => {
      const blob = await client.getBlob({ repository, digest, range }, signal);
      // Where the upstream ignores Range the piece is cut out of the whole.
      return blob.status === 'partial'
        ? await readLimited(blob.body, PIECE_BYTES, name.upstream)
        : await cutOut(blob.body, range);
    });
  }

  async #inTime<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const late = new LinkedAbort(this.#stopped.signal);
    const timer = setTimeout(() => late.abort(new CodedError('TIMEOUT')), REPAIR_PIECE_MS);
    try {
      return await work(late.signal);
    } finally {
      clearTimeout(timer);
      late.unlink();
    }
  }
}

/** True where a source did not say whether it has a right copy. */
function isNoAnswer(error: unknown): boolean {
  const mayLater = isCoded(error, 'BACKEND_DOWN') || isCoded(error, 'UPSTREAM_LIMITED');
  return mayLater || outcomeOf(error) === 'silence';
}

async function cutOut(
  body: AsyncIterable<Uint8Array> & { destroy(): void },
  { start, end }: { readonly start: number; readonly end: number },
): Promise<Uint8Array> {
  const bytes = Buffer.allocUnsafeSlow(end - start + 1);
  let at = 0;
  try {
    for await (const chunk of body) {
      const from = Math.max(start, at);
      const to = Math.min(end + 1, at + chunk.length);
      if (from < to) bytes.set(chunk.subarray(from - at, to - at), from - start);
      at += chunk.length;
      if (at > end) return bytes;
    }
  } catch (cause) {
    throwIfBug(cause);
    throw isCoded(cause) ? cause : new CodedError('BACKEND_DOWN', { cause });
  } finally {
    body.destroy();
  }
  throw new CodedError('BACKEND_DOWN', { message: 'upstream ended the body early' });
}
