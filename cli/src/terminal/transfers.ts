import { DRAW_EVERY_MS } from '../deadlines.ts';
import { barText, bytesText, durationText, rateText } from './format.ts';
import { LiveBlock } from './live-block.ts';

/** One transfer being shown. */
export interface Transfer {
  add(sizeBytes: number): void;
  /** Begins the next step of the same row: `at` of `sizeBytes` are done. */
  step(name: string, sizeBytes: number, at: number): void;
  /** Ends it; `note` stands in place of time and rate. */
  end(note?: string): void;
}

interface Row {
  name: string;
  sizeBytes: number;
  startedMs: number;
  done: number;
  quarter: number;
  note: string | undefined;
}

/** A bar gets what the rest of the longest row leaves of the terminal, within these. */
const MOST_CELLS = 28;
const LEAST_CELLS = 6;
/** Kept free for time and rate from the start on, so that bars stay as long as they are. */
const NOTE_CELLS = '59.9 s, 1023 MiB/s'.length;

/** Shows transfers: bars that move on a terminal, else a line at each quarter and at the end. */
export class Transfers {
  readonly #out: NodeJS.WriteStream;
  readonly #block: LiveBlock;
  readonly #rows: Row[] = [];
  #drawnMs = 0;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
    this.#block = new LiveBlock(out);
  }

  start(name: string, sizeBytes: number): Transfer {
    const row: Row = { name, sizeBytes, startedMs: performance.now(), done: 0, quarter: 0, note: undefined };
    this.#rows.push(row);
    this.#draw(true);
    return {
      add: (count) => {
        row.done += count;
        this.#quarter(row);
        this.#draw(false);
      },
      step: (next, nextBytes, at) => {
        if (row.name !== next) Object.assign(row, { startedMs: performance.now(), quarter: 0 });
        Object.assign(row, { name: next, sizeBytes: nextBytes, done: at });
        this.#quarter(row);
        this.#draw(false);
      },
      end: (note) => {
        const ms = performance.now() - row.startedMs;
        row.note = note ?? `${durationText(ms)}, ${rateText(row.sizeBytes, ms)}`;
        row.done = row.sizeBytes;
        this.#draw(true);
        if (!this.#block.isLive) this.#out.write(`  ${row.name}  ${bytesText(row.sizeBytes)}  ${row.note}\n`);
      },
    };
  }

  #quarter(row: Row): void {
    const reached = Math.floor((4 * row.done) / Math.max(1, row.sizeBytes));
    if (reached <= row.quarter || reached >= 4) return;
    row.quarter = reached;
    if (this.#block.isLive) return;
    this.#out.write(
      `  ${row.name}  ${reached * 25} % after ${durationText(performance.now() - row.startedMs)}\n`,
    );
  }

  #draw(force: boolean): void {
    const nowMs = performance.now();
    if (!this.#block.isLive || (!force && nowMs - this.#drawnMs < DRAW_EVERY_MS)) return;
    this.#drawnMs = nowMs;
    const rows = this.#rows.map((row) => rowText(row, nowMs));
    const rest = Math.max(
      ...rows.map(({ left, right, note }) => `${left}${right}`.length + Math.max(note.length, NOTE_CELLS)),
    );
    const cells = Math.max(LEAST_CELLS, Math.min(MOST_CELLS, this.#block.width - 1 - rest));
    this.#block.draw(
      rows.map(({ left, share, right, note }) => `${left}${barText(share, cells)}${right}${note}`),
    );
  }
}

/** A row around its bar. */
function rowText(row: Row, nowMs: number): { left: string; share: number; right: string; note: string } {
  const share = row.sizeBytes === 0 ? 1 : row.done / row.sizeBytes;
  const percent = `${Math.floor(share * 100)}%`.padStart(4);
  const right = ` ${percent}  ${bytesText(row.done).padStart(8)} of ${bytesText(row.sizeBytes)}  `;
  return {
    left: `  ${row.name} `,
    share,
    right,
    note: row.note ?? rateText(row.done, nowMs - row.startedMs),
  };
}
