import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';

const ROOT = join(import.meta.dirname, '../../..');
const BROKEN = join(ROOT, 'test/torture/sabotage/broken');

/** One run of a fault test in a process that is broken on purpose: what it says. */
function runBroken(
  file: string,
  broken: string,
  runs: number,
): { readonly status: number | null; readonly said: string } {
  const args = ['--import', join(BROKEN, `${broken}.ts`), join(ROOT, file)];
  const env = { ...process.env, SEPIA_FAULT_RUNS: String(runs), TAP: '1' };
  const { status, stdout } = spawnSync(process.execPath, args, { cwd: ROOT, env, encoding: 'utf8' });
  return { status, said: stdout };
}

for (const [file, broken, runs] of [
  ['proxy/test/bodies/faults.test.ts', 'chunk-dropped', 12],
  // On a virtual clock: which of its runs see it changes with every call that is made sooner or later.
  ['proxy/test/bodies/faults.test.ts', 'body-unchecked', 70],
  ['test/inprocess/body-ends/faults.test.ts', 'body-unchecked', 12],
  ['test/inprocess/body-ends/node-faults.test.ts', 'body-unchecked', 12],
] as const)
  t.test(`${broken}: ${file} sees it`, async (t) => {
    const { status, said } = runBroken(file, broken, runs);
    t.equal(status, 1, said.slice(-2_000));
    t.match(said, new RegExp(`not ok [0-9]+ - wrong bytes completed in ${runs} runs`));
  });
