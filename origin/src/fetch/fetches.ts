import { type RoomPlace, WaitingRoom } from '@sepia/base/async/waiting-room';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { LatestMap } from '@sepia/base/latest-map';
import type { Logger } from '@sepia/base/log';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import type { BlobStore } from '@sepia/store/blob-store';
import type { DiskRoom } from '@sepia/store/disk-room';
import { LINGER_MS } from '../deadlines/own.ts';
import { DISTRUST_MS, LIE_MS, SIZE_DOUBT_MS } from '../deadlines/upstreams.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import { unwantedError } from './failures.ts';
import { Fetch } from './fetch.ts';
import type { FetchEvents, FetchView } from './fetch-parts.ts';

/** Most blobs that one origin fetches at once; further ones wait. */
const MAX_FETCHES = 512;
const MAX_LIES = 1_000;
const MAX_WRONG = 10_000;

/** For the name of an upstream: under which ones the origin of before showed an attempt that is adopted is not known. */
const ANY = '';

/** Ends of fetches that are no fault of the upstream: nobody wanted it any more, or the origin stops. */
const OWN_ENDS: readonly string[] = ['STALE_ATTEMPT', 'DRAINING', unwantedError().code];

interface BeginOptions {
  readonly wantAll: boolean;
  readonly sizeHint: number | undefined;
  readonly firstPiece?: number | undefined;
  readonly adopt?: Metainfo;
  readonly hasPeers?: boolean;
  /** `Authorization` that a caller brought for the upstream. */
  readonly authorization?: string | undefined;
}

interface FetchesDeps {
  readonly store: BlobStore;
  readonly upstreams: Upstreams;
  readonly room: Pick<DiskRoom, 'check' | 'require'>;
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly events: Omit<FetchEvents, 'cameWrong'>;
  readonly onUpstreamBytes: (upstream: string, bytes: number) => void;
  /** A fetch has ended, and its blob is in the store. */
  readonly onFetched: (name: BlobName) => void;
  /** A fetch has ended without its blob. */
  readonly onFailed: (upstream: string, code: string) => void;
}

/** The running fetches of this origin, one per digest. */
export class Fetches {
  readonly #deps: FetchesDeps;
  readonly #options: { readonly progressMs: number; readonly firstByteMs: number };
  readonly #running = new Map<Digest, Fetch>();
  readonly #fetched = new WeakMap<FetchView, number>();
  /** Of an upstream and a digest: another one may have the blob. */
  readonly #lies = new LatestMap<string, { error: CodedError; untilMs: number }>(MAX_LIES);
  /** Of an upstream and a digest: content under that name came out wrong, until when clients may hold some of it. */
  readonly #wrong = new LatestMap<string, number>(MAX_WRONG);
  /** Under which upstreams' names bytes of a fetch may have been read. */
  readonly #shown = new WeakMap<FetchView, Set<string>>();
  /** Sizes that manifests told and that did not fit. */
  readonly #doubted = new LatestMap<Digest, number>(MAX_LIES);
  readonly #room = new WaitingRoom({
    running: () => this.#running.size,
    makeRoom: () => this.#left()?.stop(unwantedError()),
    what: 'fetches',
    most: MAX_FETCHES,
  });
  #stopped = false;

  constructor(deps: FetchesDeps, options: { readonly progressMs: number; readonly firstByteMs: number }) {
    this.#deps = deps;
    this.#options = options;
  }

  get size(): number {
    return this.#running.size;
  }

  running(digest: Digest): Fetch | undefined {
    return this.#running.get(digest);
  }

  /** What was shown of it under that upstream's name within a day came out wrong: clients may hold some of that. */
  cameWrong(name: Pick<BlobName, 'upstream' | 'digest'>): boolean {
    const nowMs = this.#deps.nowMs();
    return [name.upstream, ANY].some(
      (upstream) => (this.#wrong.get(lieKey({ ...name, upstream })) ?? 0) > nowMs,
    );
  }

  /** Returns `fetch`, whose bytes are shown under a name from now on: it may be another upstream's than they come from. */
  shown(fetch: Fetch, { upstream }: Pick<BlobName, 'upstream'>): Fetch {
    const shown = this.#shown.get(fetch);
    if (shown === undefined) this.#shown.set(fetch, new Set([upstream]));
    else shown.add(upstream);
    return fetch;
  }

  /** What the upstream sent for a fetch so far, in bytes. */
  fetchedBytes(fetch: Fetch): number {
    return this.#fetched.get(fetch) ?? 0;
  }

  [Symbol.iterator](): IterableIterator<Fetch> {
    return this.#running.values();
  }

  /**
   * The fetch of a blob, begun if there is none; waits while too many run. `adopt`: an open attempt of a leader that is gone.
   * @throws `UPSTREAM_LIES` for a while after it lied, `BLOB_UNKNOWN` where origins alone keep blobs, `NO_PEERS` when too
   * many ran for too long, `DISK_FULL`, the signal's reason
   */
  async begin(name: BlobName, options: BeginOptions, signal: AbortSignal): Promise<Fetch> {
    const place = this.#room.place(name.upstream);
    try {
      for (;;) {
        const fetch = this.#beginNow(name, options, place);
        if (fetch !== undefined) return fetch;
        await place.wait(signal); // Meanwhile somebody else may have begun it.
      }
    } finally {
      place.leave();
    }
  }

  /** Undefined where there is no room for one more. */
  #beginNow(name: BlobName, options: BeginOptions, place: RoomPlace): Fetch | undefined {
    if (this.#stopped) throw new CodedError('DRAINING');
    const running = this.#running.get(name.digest);
    if (running !== undefined) {
      if (options.wantAll) running.fetchAll();
      if (options.adopt === undefined) return running;
      running.learn(options.adopt, options.hasPeers === true);
      return this.shown(running, { upstream: ANY });
    }
    const lie = this.#lies.get(lieKey(name));
    if (lie !== undefined && lie.untilMs > this.#deps.nowMs()) throw lie.error;
    const client = this.#deps.upstreams.blobs(name.upstream, options.authorization);
    if (client === undefined) throw new CodedError('BLOB_UNKNOWN', { detail: { digest: name.digest } });
    if (!place.take()) return undefined;
    const { store, room, log, nowMs } = this.#deps;
    room.check(0);
    const events: FetchEvents = { ...this.#events(), ended: (fetch) => this.#ended(fetch) };
    const onUpstreamBytes = (bytes: number): void => {
      this.#fetched.set(fetch, this.fetchedBytes(fetch) + bytes);
      this.#deps.onUpstreamBytes(name.upstream, bytes);
    };
    const fetch: Fetch = new Fetch({ store, client, room, log, nowMs, events, onUpstreamBytes }, name, {
      ...options,
      sizeHint: (this.#doubted.get(name.digest) ?? 0) > nowMs() ? undefined : options.sizeHint,
      ...this.#options,
      lingerMs: LINGER_MS,
    });
    if (options.adopt !== undefined) this.shown(fetch, { upstream: ANY });
    this.#running.set(name.digest, fetch);
    fetch.start();
    return fetch;
  }

  stop(): void {
    this.#stopped = true;
    for (const fetch of [...this.#running.values()]) fetch.stop();
  }

  #left(): Fetch | undefined {
    return [...this.#running.values()].find((fetch) => fetch.state === 'running' && fetch.isLeft);
  }

  #events(): FetchEvents {
    const { events } = this.#deps;
    return {
      started: (fetch, leech) => events.started(fetch, leech),
      landed: (fetch, piece) => events.landed(fetch, piece),
      cameWrong: (fetch) => this.#cameWrong(fetch),
      restarted: (fetch) => events.restarted(fetch),
      peerPieces: (fetch) => events.peerPieces(fetch),
      ended: (fetch) => events.ended(fetch),
    };
  }

  /** Under names of other upstreams it is as trustworthy as before: nobody reads there what this one sent. */
  #cameWrong(fetch: FetchView): void {
    const { digest, upstream } = fetch.name;
    const untilMs = this.#deps.nowMs() + DISTRUST_MS;
    for (const one of new Set([upstream, ...(this.#shown.get(fetch) ?? [])]))
      this.#wrong.set(lieKey({ upstream: one, digest }), untilMs);
  }

  #ended(fetch: FetchView): void {
    const { digest } = fetch.name;
    if (this.#running.get(digest) === fetch) this.#running.delete(digest);
    if (isCoded(fetch.error, 'STALE_ATTEMPT') && fetch.isSizeTold)
      this.#doubted.set(digest, this.#deps.nowMs() + SIZE_DOUBT_MS);
    if (isCoded(fetch.error, 'UPSTREAM_LIES')) {
      this.#lies.set(lieKey(fetch.name), { error: fetch.error, untilMs: this.#deps.nowMs() + LIE_MS });
    }
    const { upstream, repository } = fetch.name;
    if (fetch.error !== undefined && !OWN_ENDS.includes(fetch.error.code))
      this.#deps.onFailed(upstream, fetch.error.code);
    // One that found its blob in the store has no size, and brought nothing.
    if (fetch.error === undefined && (fetch.sizeBytes ?? this.#fetched.get(fetch)) !== undefined)
      this.#deps.log.info(
        { digest, upstream, repository, sizeBytes: fetch.sizeBytes },
        'blob fetched from upstream',
      );
    if (fetch.error !== undefined)
      this.#deps.log.warn(
        { digest, upstream, repository, code: fetch.error.code, reason: fetch.error.message },
        'fetch ended',
      );
    this.#deps.events.ended(fetch);
    if (fetch.error === undefined) this.#deps.onFetched(fetch.name);
  }
}

function lieKey({ upstream, digest }: Pick<BlobName, 'upstream' | 'digest'>): string {
  return `${upstream}\n${digest}`;
}
