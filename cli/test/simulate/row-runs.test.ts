import { calibrated, simulate, simulateKraken } from '@sepia/sim';
import t from 'tap';
import {
  type RowFailure,
  type RowRun,
  type RowTask,
  rowsAtOnce,
  runRows,
} from '../../src/simulate/row-runs.ts';
import { simulateOptions } from '../../src/simulate/scenarios.ts';

const MIB = 2 ** 20;
const { options, trackers } = simulateOptions('n5', {
  ...{ nodes: 30, origins: undefined, trackers: undefined, rateBytesPerSec: undefined },
  ...{ blobBytes: [32 * MIB, 16 * MIB], seed: 1, faults: [] },
});
const TASKS: readonly RowTask[] = (['policy', 'calibrated', 'kraken'] as const).map((row) => ({
  ...{ row, options, trackers },
}));
const DIRECT = [simulate(options), simulate(calibrated(options, trackers)), simulateKraken(options)];

/** Who writes down what is told of which row. */
function noted() {
  const told: string[] = [];
  const watch = {
    began: (row: string) => void told.push(`${row} began`),
    progress: () => undefined,
    ended: (row: string) => void told.push(`${row} ended`),
  };
  return { told, watch };
}

const results = (runs: readonly (RowRun | RowFailure)[]): unknown[] =>
  runs.map((run) => ('result' in run ? run.result : run.error));

t.test('rows come to the same one after the other, beside each other and without threads', async (t) => {
  const inTurn = noted();
  t.strictSame(results(await runRows(TASKS, inTurn.watch, 1)), DIRECT);
  const each = ['policy', 'calibrated', 'kraken'].flatMap((row) => [`${row} began`, `${row} ended`]);
  t.strictSame(inTurn.told, each, 'one after the other');
  const beside = noted();
  t.strictSame(results(await runRows(TASKS, beside.watch, 3)), DIRECT);
  t.strictSame(
    beside.told.slice(0, 3),
    each.filter((one) => one.endsWith('began')),
    'all at once',
  );
});

t.test('a row that fails leaves the others alone', async (t) => {
  const broken = { ...TASKS[1]!, options: { ...options, pieces: -1 } };
  const { told, watch } = noted();
  const [policy, calibratedRow, kraken] = await runRows([TASKS[0]!, broken, TASKS[2]!], watch, 2);
  t.strictSame(results([policy!, kraken!]), [DIRECT[0], DIRECT[2]]);
  t.match(calibratedRow, { error: { name: 'RangeError' } });
  t.notOk(told.includes('calibrated ended'));
});

t.test('as many rows at once as there are cores and memory for', async (t) => {
  const atOnce = (cores: number, gib: number, pieces = 954): number => {
    const whole = TASKS.map((task) => ({ ...task, options: { ...options, nodes: 15_000, pieces } }));
    return rowsAtOnce(whole, { cores, freeBytes: gib * 2 ** 30 });
  };
  t.equal(atOnce(4, 64), 4);
  t.equal(atOnce(4, 1), 1, 'one in any case');
  t.ok(atOnce(4, 12) > 1 && atOnce(4, 12) < 4);
  t.ok(atOnce(4, 12, 20_000) < atOnce(4, 12), 'of a longer blob fewer');
});
