import { CodedError } from '@sepia/base/errors';
import type { ReadableBlob } from '@sepia/http/bodies/readable-blob';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import type { PartialBlob } from '@sepia/store/partial-blob';
import type { FetchPlan } from './core/fetch-plan.ts';
import type { FetchView } from './fetch-parts.ts';

/** A blob on its way, open for one reader. */
export interface OpenFetch extends ReadableBlob {
  /** Idempotent. */
  close(): Promise<void>;
}

interface ReadersDeps {
  readonly plan: () => FetchPlan | undefined;
  /** Some reader waits for another piece now. */
  readonly moved: () => void;
  /** Some reader closed the blob. */
  readonly left: () => void;
}

/** Who reads one blob that is on its way. */
export class FetchReaders {
  readonly #deps: ReadersDeps;
  #count = 0;
  #nextId = 1;

  constructor(deps: ReadersDeps) {
    this.#deps = deps;
  }

  get count(): number {
    return this.#count;
  }

  /** The blob as one more reader sees it that reads no further than `lastPiece`. `partial` is retained for it. */
  open(fetch: FetchView, partial: PartialBlob, lastPiece?: number): OpenFetch {
    const { plan, moved, left } = this.#deps;
    this.#count += 1;
    return openFetch(fetch, partial, {
      move: (id, piece) => {
        plan()?.moveReader(id, piece, lastPiece);
        moved();
      },
      leave: (id) => plan()?.closeReader(id),
      nextId: () => this.#nextId++,
      closed: () => {
        this.#count -= 1;
        left();
      },
    });
  }
}

interface ReaderHooks {
  readonly nextId: () => number;
  /** Reader `id` stands at `piece` now. */
  readonly move: (id: number, piece: number) => void;
  readonly leave: (id: number) => void;
  readonly closed: () => void;
}

/**
 * One reader's view of a fetch. `partial` is retained for it. A piece is read as soon as it is whole, from memory until it is on
 * disk. What is read is of one attempt: when that is dropped, it fails with `STALE_ATTEMPT`, as its client holds bytes that may be
 * wrong.
 */
function openFetch(fetch: FetchView, partial: PartialBlob, hooks: ReaderHooks): OpenFetch {
  const { digest } = fetch.name;
  // A new attempt has another one; one that became final is the same.
  const { metainfo } = partial;
  let closed = false;
  const check = (): void => {
    if (fetch.error !== undefined) throw fetch.error;
    if (partial.metainfo !== metainfo) throw new CodedError('STALE_ATTEMPT', { detail: { digest } });
  };
  /** `read` begins while the piece is there: one that could not be written is waited for once more. */
  const whenReadable = async <T>(index: number, signal: AbortSignal, read: () => Promise<T>): Promise<T> => {
    for (;;) {
      check();
      if (partial.isReadable(index)) return await read();
      await fetch.changed(signal);
    }
  };
  return {
    digest,
    sizeBytes: partial.sizeBytes,
    get isFinal() {
      return fetch.state === 'final';
    },
    provesWhole: true,
    has: (index) => partial.isReadable(index),
    leaves: async (index, signal) =>
      await whenReadable(index, signal, async () => await partial.leaves(index)),
    read: async (offset, into, signal) => {
      const read = async (): Promise<void> => await partial.read(offset, into);
      await whenReadable(Math.floor(offset / PIECE_BYTES), signal, read);
    },
    // Damaged between the write and this read: the body is cut, and the blob mended when it is stored.
    mend: (index) => Promise.reject(new CodedError('DISK_CORRUPT', { detail: { digest, piece: index } })),
    whenFinal: async (signal) => {
      fetch.fetchAll();
      await fetch.whenFinal(signal);
      check();
    },
    openReader: (piece) => {
      const id = hooks.nextId();
      hooks.move(id, piece);
      return { move: (to) => hooks.move(id, to), close: () => hooks.leave(id) };
    },
    close: async () => {
      if (closed) return;
      closed = true;
      hooks.closed();
      await partial.release();
    },
  };
}
