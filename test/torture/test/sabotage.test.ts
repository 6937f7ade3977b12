import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { coreRuns } from '../cores/cores.ts';
import { parseOptions } from '../options.ts';
import { SABOTAGES } from '../sabotage/names.ts';
import { preloadOf } from '../sabotage/sabotage.ts';

const MAIN = join(import.meta.dirname, '../main.ts');
// Those that break processes: test/processes/faults/torture-liars.test.ts.
for (const name of SABOTAGES.filter((one) => preloadOf(one) === undefined))
  t.test(`${name}: the tool sees it`, async (t) => {
    const args = [MAIN, '--rounds', '1', '--seed', '1', '--sabotage', name];
    const { status, stdout } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    t.equal(status, 1, stdout);
    t.match(
      stdout.trim().split('\n').at(-1),
      /^0 rounds, lost (?:1, corrupt 0, stale 0|0, corrupt 0, stale 1)$/,
    );
  });

t.test('cores that nobody broke hold', async (t) => {
  t.equal(await coreRuns({ seed: 1, sabotage: undefined }, () => undefined), undefined);
});

t.test('options that are wrong say which', async (t) => {
  t.throws(() => parseOptions(['--sabotage', 'nothing'], 1), /--sabotage nothing: one of empty-acceptor/);
  t.throws(() => parseOptions(['--origins', '4'], 1), /--origins 4: 3 or 7/);
  t.throws(() => parseOptions(['--rounds', '0'], 1), /--rounds 0/);
  t.match(parseOptions(['--rounds', '5', '--seed', '9', '--origins', '7'], 1), {
    rounds: 5,
    seed: 9,
    origins: [7],
    disks: true,
  });
  t.equal(parseOptions(['--disks', 'off'], 1).disks, false);
});
