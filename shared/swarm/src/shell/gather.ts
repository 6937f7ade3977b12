/** A chunk of at least this is content that trickles, not a message that somebody waits for, in bytes. */
const LEAST_BYTES = 1_024;
/** Where reads bring so much they are few enough. */
const MOST_BYTES = 64 * 1024;
/** How long the kernel gathers what comes meanwhile, in ms: far below the time that a block takes on such a link. */
const GATHER_MS = 4;

/** What it needs of a socket. */
export interface GatheredSocket {
  readonly destroyed: boolean;
  isPaused(): boolean;
  resume(): unknown;
}

/**
 * Lets bytes that trickle in gather before they are read: a link that is slower than this machine brings a few packets
 * at a time, and a wake-up for each of them costs more than all else that is done with them.
 */
export class Gather {
  readonly #later: (run: () => void) => void;
  #waiting = new Set<GatheredSocket>();

  constructor(
    later: (run: () => void) => void = (run) => {
      setTimeout(run, GATHER_MS);
    },
  ) {
    this.#later = later;
  }

  /** A read brought `count` bytes. True: the socket is to be read no further, and goes on by itself a moment later. */
  holds(socket: GatheredSocket, count: number): boolean {
    if (count < LEAST_BYTES || count >= MOST_BYTES) return false;
    if (this.#waiting.size === 0) this.#later(() => this.#goOn());
    this.#waiting.add(socket);
    return true;
  }

  #goOn(): void {
    const waiting = this.#waiting;
    this.#waiting = new Set();
    // One that its owner has paused meanwhile goes on by its owner.
    for (const socket of waiting) if (!socket.destroyed && !socket.isPaused()) socket.resume();
  }
}
