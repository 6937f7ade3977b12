import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import { to } from '@sepia/cluster/api/route';
import { TORRENT } from '@sepia/cluster/api/tracker';
import { readLimited } from '@sepia/http/client';
import type { Dispatcher } from '@sepia/http/sockets';
import { TORRENT_TYPE } from '@sepia/metainfo/torrent';
import { request } from 'undici';
import { TORRENT_MS } from '../deadlines.ts';
import { errorOf } from './answered-error.ts';

/** Longest torrent that is read: the piece hashes of 3 TiB. */
const MAX_TORRENT_BYTES = 64 * 1024 * 1024;
/** Between two questions where the tracker names no time, and at most. */
const PAUSE_SECONDS = { usual: 1, most: 30 } as const;

interface TorrentClientOptions {
  /** Base URL of any tracker. */
  readonly tracker: string;
  /** How long it is asked again while origins still read the blob, in ms. */
  readonly waitMs: number;
  readonly nowMs: () => number;
}

/** What names a blob to a tracker; without an upstream it is the cluster's first. */
interface TorrentName {
  readonly digest: Digest;
  readonly repository: string;
  /** Name or host of the upstream. */
  readonly upstream: string | undefined;
}

/** Asks a tracker for torrents of blobs. */
export class TorrentClient {
  readonly #dispatcher: Dispatcher;
  readonly #options: TorrentClientOptions;

  constructor(deps: { readonly dispatcher: Dispatcher }, options: TorrentClientOptions) {
    this.#dispatcher = deps.dispatcher;
    this.#options = options;
  }

  /**
   * The torrent file of a blob. An origin reads the whole blob when it is first asked for: until then the tracker says 503, and
   * is asked again.
   * @throws {CodedError} what the tracker answered, `PEER_HTTP` where none answers
   */
  async torrent(name: TorrentName, signal?: AbortSignal): Promise<Buffer> {
    const { tracker, waitMs, nowMs } = this.#options;
    const url = new URL(to(TORRENT, name).path, tracker);
    const untilMs = nowMs() + waitMs;
    for (;;) {
      const answer = await this.#send(url, signal);
      const type = answer.headers['content-type'];
      if (answer.statusCode === 200 && type === TORRENT_TYPE)
        return await readLimited(answer.body, MAX_TORRENT_BYTES, tracker);
      if (answer.statusCode < 400) throw await this.#noTracker(answer);
      const error = await errorOf({ url: tracker }, answer);
      const pauseMs = pauseSeconds(answer.headers['retry-after']) * 1_000;
      if (answer.statusCode !== 503 || nowMs() + pauseMs > untilMs) throw error;
      await delay(pauseMs, signal);
    }
  }

  async #send(url: URL, signal: AbortSignal | undefined): Promise<Dispatcher.ResponseData> {
    try {
      return await request(url, {
        dispatcher: this.#dispatcher,
        headers: { 'user-agent': 'sepia' },
        headersTimeout: TORRENT_MS,
        bodyTimeout: TORRENT_MS,
        signal: signal ?? null,
      });
    } catch (cause) {
      throwIfBug(cause);
      signal?.throwIfAborted();
      if (isCoded(cause)) throw cause;
      throw new CodedError('PEER_HTTP', {
        message: `${url.origin} does not answer (${(cause as Error).message}); name a tracker with --tracker URL`,
        cause,
      });
    }
  }

  async #noTracker(answer: Dispatcher.ResponseData): Promise<CodedError> {
    await answer.body.dump();
    return new CodedError('PEER_HTTP', {
      message: `${this.#options.tracker} answered no torrent; is it a tracker? name one with --tracker URL`,
    });
  }
}

function pauseSeconds(header: string | string[] | undefined): number {
  const seconds = Number(header ?? PAUSE_SECONDS.usual);
  return Number.isFinite(seconds) && seconds > 0
    ? Math.min(seconds, PAUSE_SECONDS.most)
    : PAUSE_SECONDS.usual;
}
