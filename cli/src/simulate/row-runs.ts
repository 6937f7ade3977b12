import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { Slots } from '@sepia/base/async/slots';
import type { KrakenOptions, KrakenResult, Result, SimulateOptions, SimulateProgress } from '@sepia/sim';
import type { Row } from './rows.ts';

/** What a thread is to run. */
export interface RowTask {
  readonly row: Row['row'];
  readonly options: SimulateOptions & KrakenOptions;
  readonly trackers: number;
}

/** What a thread says. */
export type RowWord = { readonly progress: SimulateProgress } | RowRun;

/** What came of a row, and how long it took here. */
export interface RowRun {
  readonly result: Result | KrakenResult;
  readonly wallMs: number;
}

/** A row that came to nothing. */
export interface RowFailure {
  readonly error: unknown;
}

/** Who is told how rows get on. */
export interface RowWatch {
  /** The row runs, on a thread of its own. */
  began(row: Row['row']): void;
  progress(row: Row['row'], progress: SimulateProgress): void;
  ended(row: Row['row'], run: RowRun): void;
}

/** Heap of one thread, and its young generation, in MiB. */
const HEAP_MIB = 6_144;
const YOUNG_MIB = 192;
/** Memory of a run: the base, then per node and blob, then per piece of these (mostly which of 64 peers have it). */
const BASE_BYTES = 256 * 2 ** 20;
const NODE_BYTES = 256 * 1024;
const NODE_PIECE_BYTES = 48;

/** How many rows run at once: one a core, and as many as memory is free for; one in any case. */
export function rowsAtOnce(
  tasks: readonly RowTask[],
  { cores, freeBytes }: { readonly cores: number; readonly freeBytes: number },
): number {
  const most = Math.max(...tasks.map(({ options }) => rowBytes(options)));
  return Math.max(1, Math.min(cores, Math.floor(freeBytes / most)));
}

/** The memory that bounds a row. */
function rowBytes({ nodes, pieces }: SimulateOptions): number {
  const nodeBytes = [pieces].flat().reduce((sum, one) => sum + NODE_BYTES + one * NODE_PIECE_BYTES, 0);
  return BASE_BYTES + nodes * nodeBytes;
}

/** Runs rows beside each other, on a thread each. One that fails leaves the others alone; what came of each, in their order. */
export async function runRows(
  tasks: readonly RowTask[],
  watch: RowWatch,
  atOnce: number = rowsAtOnce(tasks, { cores: availableParallelism(), freeBytes: process.availableMemory() }),
): Promise<(RowRun | RowFailure)[]> {
  const slots = new Slots({ slots: atOnce });
  const ends = await Promise.allSettled(
    tasks.map(async (task) => await slots.run(async () => await runRow(task, watch))),
  );
  return ends.map((end) => (end.status === 'fulfilled' ? end.value : { error: end.reason as unknown }));
}

async function runRow(task: RowTask, watch: RowWatch): Promise<RowRun> {
  const { row } = task;
  watch.began(row);
  const worker = new Worker(new URL('./row-worker.ts', import.meta.url), {
    workerData: task,
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB, maxYoungGenerationSizeMb: YOUNG_MIB },
  });
  const run = await new Promise<RowRun>((settle, reject) => {
    worker.on('message', (word: RowWord) => {
      if ('progress' in word) watch.progress(row, word.progress);
      else settle(word);
    });
    worker.once('error', reject);
    worker.once('exit', (code) => reject(new Error(`its thread ended with ${code}`)));
  });
  watch.ended(row, run);
  return run;
}
