import type { Digest } from '@sepia/base/digest';
import type { LeaseRequest } from '@sepia/cluster/api/lease';
import { SHOW_ENDED_MS } from '../deadlines.ts';
import type { Download } from './download.ts';
import type { PieceSource } from './download-deps.ts';

const MAX_SHOWN = 64;

type Figures = NonNullable<LeaseRequest['swarms']>;

interface Shown {
  readonly download: Download;
  readonly bytes: Readonly<Record<PieceSource, number>>;
  endedAtMs: number | undefined;
}

/** Figures of running downloads, and of those that ended a few seconds ago, for people who look. */
export class ShownDownloads {
  readonly #shown = new Map<Digest, Shown>();
  readonly #nowMs: () => number;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** `bytes` is the caller's running count. */
  add(download: Download, bytes: Readonly<Record<PieceSource, number>>): void {
    const shown: Shown = { download, bytes, endedAtMs: undefined };
    this.#shown.delete(download.digest);
    this.#shown.set(download.digest, shown);
    void download.ended.then(() => {
      shown.endedAtMs = this.#nowMs();
    });
  }

  figures(): Figures {
    const sinceMs = this.#nowMs() - SHOW_ENDED_MS;
    const figures: Figures = [];
    for (const [digest, { download, endedAtMs, bytes }] of this.#shown) {
      if (endedAtMs !== undefined && endedAtMs < sinceMs) {
        this.#shown.delete(digest);
        continue;
      }
      const { have } = download;
      figures.push({
        digest,
        pieces: have.size,
        have: Buffer.from(have.bytes).toString('hex'),
        peerBytes: bytes.peer,
        originBytes: bytes.origin + bytes.upstream,
      });
    }
    return figures.slice(-MAX_SHOWN);
  }
}
