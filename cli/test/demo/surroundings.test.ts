import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { stopped } from '../../src/commands/demo.ts';
import { DemoFolder } from '../../src/demo/surroundings.ts';

/** Above the most that Linux gives. */
const NO_PID = 2 ** 22 + 1;
const NOBODY = 65_534;

/** What `run` does without the rights of root. */
function unprivileged<T>(run: () => T): T {
  if (process.geteuid?.() !== 0) return run();
  process.seteuid?.(NOBODY);
  try {
    return run();
  } finally {
    process.seteuid?.(0);
  }
}

t.test('a demo without a place for its folder says which variable names one', async (t) => {
  const folder = join(t.testdir(), 'none');
  t.throws(() => new DemoFolder(folder).create(), {
    code: 'START_FAILED',
    message: `no folder can be made in ${folder} (ENOENT); set TMPDIR to one that can be written to`,
  });
});

t.test("what a killed demo left is removed, unless it is another user's", async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'left-'));
  const ours = join(root, `sepia-demo-${NO_PID}-ours`);
  const theirs = join(root, `sepia-demo-${NO_PID}-theirs`);
  t.teardown(() => {
    chmodSync(theirs, 0o700);
    rmSync(root, { recursive: true, force: true });
  });
  chmodSync(root, 0o777);
  for (const folder of [ours, theirs]) mkdirSync(folder);
  writeFileSync(join(theirs, 'file'), '');
  chmodSync(theirs, 0o500);
  const folder = new DemoFolder(root);
  const made = unprivileged(() => folder.create());
  t.ok(existsSync(made));
  t.notOk(existsSync(ours));
  t.ok(existsSync(theirs));
  folder.remove();
  t.notOk(existsSync(made));
});

t.test('a signal is no success of --once', async (t) => {
  let stops = 0;
  const demo = { stop: async () => void stops++ };
  await stopped(demo, false);
  await t.rejects(stopped(demo, true), { code: 'DRAINING' });
  t.equal(stops, 2);
});
