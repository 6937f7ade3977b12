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
export type RowWord =
  | { readonly progress: SimulateProgress }
  | { readonly result: Result | KrakenResult; readonly wallMs: number };

/** What came of a row, and how long it took here. */
export interface RowRun {
  readonly result: Result | KrakenResult;
  readonly wallMs: number;
}

/** Of one thread's heap: 15,000 nodes need about 3 GiB. */
const HEAP_MIB = 6_144;
const YOUNG_MIB = 192;

/** Runs rows beside each other, as many as there are cores but at most two (memory), and tells how far each is. */
export async function runRows(
  tasks: readonly RowTask[],
  tell: (row: Row['row'], progress: SimulateProgress) => void,
): Promise<RowRun[]> {
  const slots = new Slots({ slots: Math.min(2, availableParallelism()) });
  return await Promise.all(
    tasks.map(
      async (task) => await slots.run(async () => await runRow(task, (progress) => tell(task.row, progress))),
    ),
  );
}

async function runRow(task: RowTask, tell: (progress: SimulateProgress) => void): Promise<RowRun> {
  const worker = new Worker(new URL('./row-worker.ts', import.meta.url), {
    workerData: task,
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB, maxYoungGenerationSizeMb: YOUNG_MIB },
  });
  return await new Promise((settle, reject) => {
    worker.on('message', (word: RowWord) => {
      if ('progress' in word) tell(word.progress);
      else settle(word);
    });
    worker.once('error', reject);
    worker.once('exit', (code) => reject(new Error(`the thread of ${task.row} ended with ${code}`)));
  });
}
