import { Slots } from '@sepia/base/async/slots';
import { LATE_MS, TURN_MS } from '../deadlines/bodies.ts';

/** Windows that are read at once in a process. More at once are no faster, and what each needs meanwhile outlives V8's young heap. */
const MOST_AT_ONCE = 32;
/** Reads of one blob that are under way, with or without a turn: on a busy machine all are slow, and share it with the others. */
const MOST_OF_BLOB = 2 * MOST_AT_ONCE;

interface TurnLimits {
  readonly most: number;
  readonly mostOfBlob: number;
  readonly turnMs: number;
  readonly lateMs: number;
}

/** Reads of one blob. */
interface Room {
  readonly slots: Slots;
  /** One of them was late, and none has been in time since: further ones are not waited for as long. */
  isLate: boolean;
}

/**
 * Turns of blobs one after the other, and for each in the order asked: however many read one blob, as fast as their sockets
 * take it in, who reads another waits for few of them. Who leaves while it waits takes none; where the source of a blob
 * hangs, that is waited for once.
 */
export class ReadTurns {
  readonly #limits: TurnLimits;
  readonly #slots: Slots;
  /** Blobs of which something is read. */
  readonly #rooms = new Map<string, Room>();

  constructor(limits: TurnLimits) {
    this.#limits = limits;
    this.#slots = new Slots({ slots: limits.most });
  }

  /** @throws the signal's reason when it is aborted before the turn comes */
  async run<T>(blob: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const { mostOfBlob, turnMs, lateMs } = this.#limits;
    const room = this.#rooms.get(blob) ?? { slots: new Slots({ slots: mostOfBlob }), isLate: false };
    this.#rooms.set(blob, room);
    const leave = room.slots.take() ?? (await room.slots.acquire(signal, ''));
    let over = (): void => undefined;
    let timer: NodeJS.Timeout | undefined;
    try {
      over = this.#slots.take() ?? (await this.#slots.acquire(signal, blob));
      const late = (): void => {
        room.isLate = true;
        leave();
      };
      let isInTime = true;
      timer = setTimeout(() => {
        isInTime = false;
        over();
        if (room.isLate) leave();
        else timer = setTimeout(late, lateMs);
      }, turnMs);
      const done = await work();
      if (isInTime) room.isLate = false;
      return done;
    } finally {
      clearTimeout(timer);
      over();
      leave();
      if (room.slots.held === 0 && this.#rooms.get(blob) === room) this.#rooms.delete(blob);
    }
  }
}

/** The turns that all bodies of this process share. */
export const readTurns = new ReadTurns({
  ...{ most: MOST_AT_ONCE, turnMs: TURN_MS },
  ...{ mostOfBlob: MOST_OF_BLOB, lateMs: LATE_MS },
});
