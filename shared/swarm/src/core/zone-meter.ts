import { PIECE_BYTES } from '@sepia/metainfo/tree';

/** What may come across before there is anything to compare with, pieces. */
const FIRST_PIECES = 4;

/** Counts what comes from the own zone and across, and says whether one more piece across is within the share. */
export class ZoneMeter {
  readonly #share: number;
  #nearBytes = 0;
  #farBytes = 0;

  /** `share`: of all bytes, at most this may come across zones; 1: no cap. */
  constructor(share: number) {
    this.#share = share;
  }

  add(bytes: number, far: boolean): void {
    if (far) this.#farBytes += bytes;
    else this.#nearBytes += bytes;
  }

  /** `onItsWay`: pieces asked across already. */
  mayCross(onItsWay: number): boolean {
    const far = this.#farBytes + (onItsWay + 1) * PIECE_BYTES;
    return far <= Math.max(this.#share * (this.#nearBytes + far), FIRST_PIECES * PIECE_BYTES);
  }
}
