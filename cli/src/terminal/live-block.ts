import { stripVTControlCharacters } from 'node:util';

const USUAL_WIDTH = 80;

/** Lines at the bottom of a terminal that are drawn over in place; on anything else nothing is drawn. */
export class LiveBlock {
  readonly #out: NodeJS.WriteStream;
  #drawn = 0;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
  }

  get isLive(): boolean {
    return this.#out.isTTY === true;
  }

  /** Columns of the terminal. */
  get width(): number {
    return this.#out.columns > 0 ? this.#out.columns : USUAL_WIDTH;
  }

  /** Draws `lines` over what was drawn before; lines are cut to the terminal's width. */
  draw(lines: readonly string[]): void {
    if (!this.isLive) return;
    const { width } = this;
    const fitting = lines.map((line) =>
      stripVTControlCharacters(line).length < width
        ? line
        : `${stripVTControlCharacters(line).slice(0, width - 2)}…`,
    );
    const up = this.#drawn === 0 ? '' : `\x1b[${this.#drawn}A`;
    this.#out.write(`${up}\r\x1b[J${fitting.join('\n')}\n`);
    this.#drawn = fitting.length;
  }

  /** Leaves what is drawn and starts anew below it. */
  done(): void {
    this.#drawn = 0;
  }
}
