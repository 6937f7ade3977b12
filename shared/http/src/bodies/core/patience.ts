import { CodedError, isCoded } from '@sepia/base/errors';

/** So often all holders must say that nobody has a right copy, they themselves neither, until they are believed. */
const HOPELESS_ROUNDS = 2;

/**
 * When a read that is asked for in vain fails: after `progressMs` in which nothing of it came and nobody that lives was waited
 * for, or when all holders say round after round that nobody has a right copy. A round is over when nobody is left to ask.
 * Times are in ms, of one clock.
 */
export class Patience {
  readonly #progressMs: number;
  /** Since when nobody that lives is waited for. */
  #aloneMs: number;
  #tookOver = false;
  /** What each holder said in this round; undefined: nothing. */
  #said: unknown[] = [];
  /** Rounds in a row in which all said that nobody has it. */
  #hopeless = 0;

  constructor(progressMs: number, nowMs: number) {
    this.#progressMs = progressMs;
    this.#aloneMs = nowMs;
  }

  /** A member that said nothing is not waited for any longer. */
  gaveUp(): void {
    this.#said.push(undefined);
  }

  /**
   * A member that was asked at `askedMs` failed. If by silence, it was alive as long as it was waited for: who takes over
   * from it has the time that it had. Once, or it never ends.
   */
  failed(error: unknown, isSilence: boolean, askedMs: number, nowMs: number): void {
    this.#said.push(error);
    if (this.#tookOver || !isSilence || nowMs - askedMs <= this.#progressMs) return;
    this.#tookOver = true;
    this.#aloneMs = nowMs;
  }

  /**
   * A round is over; `newsMs`: when something of the read came last. Returns what it fails with: `NO_PEERS`, or what a holder said;
   * undefined: holders are looked for and asked again.
   */
  roundEnded(newsMs: number, nowMs: number): unknown {
    const said = this.#said;
    this.#said = [];
    this.#hopeless = said.length > 0 && said.every(isNowhere) ? this.#hopeless + 1 : 0;
    if (this.#hopeless >= HOPELESS_ROUNDS) return said[0];
    if (nowMs - Math.max(this.#aloneMs, newsMs) <= this.#progressMs) return undefined;
    const message = `no source made progress within ${this.#progressMs / 1000} s`;
    return new CodedError('NO_PEERS', { message });
  }
}

/** A holder has looked for a right copy of the piece, at all that could have one. */
function isNowhere(error: unknown): boolean {
  return isCoded(error, 'NO_PEERS') && typeof error.detail['piece'] === 'number';
}
