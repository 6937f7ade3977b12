import { parentPort, workerData } from 'node:worker_threads';
import { calibrated, type SimulateProgress, simulate, simulateKraken } from '@sepia/sim';
import type { RowTask, RowWord } from './row-runs.ts';

/** Runs one row of `sepia simulate` on a thread of its own and tells how far it is. */
const { row, options, trackers } = workerData as RowTask;
const tell = (word: RowWord): void => parentPort!.postMessage(word);
const startedMs = performance.now();
const onWord = (progress: SimulateProgress): void => tell({ progress });
const result =
  row === 'kraken'
    ? simulateKraken(options, onWord)
    : simulate(row === 'policy' ? options : calibrated(options, trackers), onWord);
tell({ result, wallMs: performance.now() - startedMs });
