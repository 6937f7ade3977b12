import { Rate } from './rate.ts';

/**
 * The line of one machine, which all its swarms share: an image has many layers, and what one of them asks for, or is given, waits
 * behind what all the others were.
 */
export class SharedLine {
  readonly #rate: Rate;
  #bytes = 0;
  readonly #asked = new Sum();
  readonly #suggested = new Sum();
  readonly #senders = new Senders();

  constructor(nowMs: number) {
    this.#rate = new Rate(nowMs);
  }

  /** A place on the line for one swarm. */
  place(): LinePlace {
    let ownBytes = 0;
    return {
      rate: this.#rate,
      came: (bytes, nowMs) => {
        ownBytes += bytes;
        this.#bytes += bytes;
        this.#rate.add(bytes, nowMs);
      },
      arrived: () => ({ ownBytes, lineBytes: this.#bytes }),
      asked: this.#asked.share(),
      suggested: this.#suggested.share(),
      senders: this.#senders,
    };
  }
}

/** One swarm's place on the line of its machine. */
export interface LinePlace {
  /** What comes, of all swarms together. */
  readonly rate: Rate;
  /** So many bytes of this swarm came. */
  came(bytes: number, nowMs: number): void;
  arrived(): Arrived;
  /** Pieces on their way here. */
  readonly asked: Share;
  /** Pieces that were suggested to peers, and that those do not have yet. */
  readonly suggested: Share;
  readonly senders: Senders;
}

/** Bytes that came, verified or not: of one swarm, and of all swarms of the machine; both only grow. */
export interface Arrived {
  readonly ownBytes: number;
  readonly lineBytes: number;
}

/** What one swarm has of something that is counted over all of them. */
export interface Share {
  /** How many swarms have some; this one counts in any case. */
  swarms(): number;
  /** What all have together, with `own` of this one. */
  total(own: number): number;
  /** This one has so much now. A swarm that ends says 0. */
  note(own: number): void;
}

/** Pieces on their way from each peer, over all wires to it: its line is one, too. */
export class Senders {
  readonly #pieces = new Map<string, number>();

  /** Pieces on their way from that peer. */
  of(peerId: string): number {
    return this.#pieces.get(peerId) ?? 0;
  }

  /** So many more are on their way from it; less than 0: fewer. */
  add(peerId: string, by: number): void {
    const pieces = this.of(peerId) + by;
    if (pieces === 0) this.#pieces.delete(peerId);
    else this.#pieces.set(peerId, pieces);
  }
}

class Sum {
  #swarms = 0;
  #total = 0;

  share(): Share {
    let noted = 0;
    return {
      swarms: () => this.#swarms + (noted > 0 ? 0 : 1),
      total: (own) => this.#total - noted + own,
      note: (own) => {
        this.#total += own - noted;
        this.#swarms += Math.sign(own) - Math.sign(noted);
        noted = own;
      },
    };
  }
}
