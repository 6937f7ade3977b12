import { News } from '@sepia/base/news';
import type { BlobReader } from '@sepia/http/bodies/readable-blob';
import { type ReaderSpan, type UrgeDeps, Urges } from './urges.ts';

interface ReadingDeps extends UrgeDeps {
  /** Tells the swarm where the reader stands. */
  readonly openReader: (index: number, last: number) => BlobReader;
  /** Somebody comes or goes: the time without progress counts from now. */
  readonly onChange: () => void;
}

/** Who reads a download, and whether all of it is wanted or what they read alone. */
export class Readings {
  readonly #deps: ReadingDeps;
  readonly #readers = new Map<number, ReaderSpan>();
  readonly #urges: Urges;
  readonly #woken = new News();
  #next = 0;
  #users = 0;
  #all: boolean;

  constructor(deps: ReadingDeps, options: { readonly wantAll: boolean }) {
    this.#deps = deps;
    this.#urges = new Urges(deps);
    this.#all = options.wantAll;
  }

  get wantsAll(): boolean {
    return this.#all;
  }

  /** Nothing is to be fetched now. */
  get idle(): boolean {
    return !this.#all && this.#readers.size === 0;
  }

  /** Nobody is there that will read it. */
  get left(): boolean {
    return this.idle && this.#users === 0;
  }

  open(pieceIndex: number, lastPiece: number): BlobReader {
    const id = this.#next++;
    const reader = this.#deps.openReader(pieceIndex, lastPiece);
    const stand = (index: number): void => {
      this.#readers.set(id, { index, last: lastPiece });
      this.update();
    };
    if (this.idle) this.#deps.onChange();
    stand(pieceIndex);
    this.#woken.tell();
    return {
      move: (index) => {
        reader.move(index);
        if (this.#readers.has(id)) stand(index);
      },
      close: () => {
        reader.close();
        this.#readers.delete(id);
        this.update();
      },
    };
  }

  /** One more request that will read; call what is returned once when it is over. */
  use(): () => void {
    this.#users += 1;
    this.#deps.onChange();
    return () => {
      this.#users -= 1;
      this.#deps.onChange();
    };
  }

  /** Returns true the first time. */
  wantAll(): boolean {
    if (this.#all) return false;
    this.#all = true;
    this.#deps.onChange();
    this.#woken.tell();
    return true;
  }

  /** More is here or known: asks for what does not come by itself. */
  update(): void {
    this.#urges.update(this.#readers.values());
  }

  /** Resolves when there is something to fetch: for a download without readers no member is asked anything. */
  async untilBusy(signal: AbortSignal): Promise<void> {
    while (this.idle) await this.#woken.next(signal);
  }

  stop(): void {
    this.#urges.stop();
  }
}
