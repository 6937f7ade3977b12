import { Slots } from '@sepia/base/async/slots';

/** Windows that are read at once in a process. More at once are no faster, and what each needs meanwhile outlives V8's young heap. */
const MOST_AT_ONCE = 32;
/** A read that takes longer gives its turn to the next and goes on, in ms: one slow source holds up nobody. */
const TURN_MS = 250;
/** Reads of one blob that are under way, with or without a turn: on a busy machine all are slow, and share it with the others. */
const MOST_OF_BLOB = 2 * MOST_AT_ONCE;
/** One that goes on for so long behind its turn is not counted any more, in ms. */
const LATE_MS = 2_000;

interface TurnLimits {
  readonly most: number;
  readonly mostOfBlob: number;
  readonly turnMs: number;
  readonly lateMs: number;
}

/**
 * Turns of blobs one after the other, and for each in the order asked: however many read one blob, as fast as their sockets
 * take it in, who reads another waits for few of them.
 */
export class ReadTurns {
  readonly #limits: TurnLimits;
  readonly #slots: Slots;
  /** Blobs of which something is read. */
  readonly #rooms = new Map<string, Slots>();

  constructor(limits: TurnLimits) {
    this.#limits = limits;
    this.#slots = new Slots({ slots: limits.most });
  }

  async run<T>(blob: string, work: () => Promise<T>): Promise<T> {
    const room = this.#rooms.get(blob) ?? new Slots({ slots: this.#limits.mostOfBlob });
    this.#rooms.set(blob, room);
    const leave = room.take() ?? (await room.acquire());
    const over = this.#slots.take() ?? (await this.#slots.acquire(undefined, blob));
    const { turnMs, lateMs } = this.#limits;
    let timer = setTimeout(() => {
      over();
      timer = setTimeout(leave, lateMs);
    }, turnMs);
    try {
      return await work();
    } finally {
      clearTimeout(timer);
      over();
      leave();
      if (room.held === 0 && this.#rooms.get(blob) === room) this.#rooms.delete(blob);
    }
  }
}

/** Those of this process. */
export const readTurns = new ReadTurns({
  ...{ most: MOST_AT_ONCE, turnMs: TURN_MS },
  ...{ mostOfBlob: MOST_OF_BLOB, lateMs: LATE_MS },
});
