import { barText, bytesText, durationText } from '../terminal/format.ts';
import { LiveBlock } from '../terminal/live-block.ts';
import type { PreheatJob, PreheatRow } from './preheat-client.ts';

const BAR_CELLS = 24;
/** Rows drawn at once; the others are counted. */
const MAX_DRAWN = 20;

/** Shows a preheat: a bar per origin or node on a terminal, else a line for each that ends. */
export class PreheatView {
  readonly #out: NodeJS.WriteStream;
  readonly #block: LiveBlock;
  readonly #startedMs = performance.now();
  readonly #told = new Set<string>();

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
    this.#block = new LiveBlock(out);
  }

  show(job: PreheatJob): void {
    if (this.#block.isLive) {
      this.#block.draw(linesOf(job));
      return;
    }
    for (const row of job.rows) {
      if ((row.state !== 'done' && row.state !== 'failed') || this.#told.has(row.id)) continue;
      this.#told.add(row.id);
      this.#out.write(`${rowText(row)}\n`);
    }
  }

  /** Draws it for the last time, with the verdict. */
  end(job: PreheatJob): void {
    this.show(job);
    this.#block.done();
    const count = (role: string): number =>
      job.rows.filter((row) => row.role === role && row.state === 'done').length;
    const took = durationText(performance.now() - this.#startedMs);
    this.#out.write(
      job.state === 'SUCCESS'
        ? `preheated: ${count('origin')} origins, ${count('agent')} nodes in ${took}\n`
        : `preheat failed after ${took}: ${job.error}\n`,
    );
  }
}

function linesOf({ rows, moreRows }: PreheatJob): string[] {
  const shown = [...rows].sort((a, b) => rank(a) - rank(b)).slice(0, MAX_DRAWN);
  const hidden = rows.length - shown.length + moreRows;
  return [...shown.map(rowText), ...(hidden > 0 ? [`  … and ${hidden} more`] : [])];
}

/** What is under way first, then what failed. */
function rank({ state }: PreheatRow): number {
  return { running: 0, pending: 1, failed: 2, done: 3 }[state];
}

function rowText(row: PreheatRow): string {
  const { id, state, doneBytes = 0, totalBytes = doneBytes, description } = row;
  if (state === 'failed') return `  ${id.padEnd(20)} failed: ${description ?? ''}`;
  const share = state === 'done' ? 1 : totalBytes === 0 ? 0 : doneBytes / totalBytes;
  return `  ${id.padEnd(20)} ${barText(share, BAR_CELLS)} ${state.padEnd(7)} ${bytesText(doneBytes)}`;
}
