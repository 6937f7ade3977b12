import { chmodSync } from 'node:fs';
import { type Runner, runHeard } from '@sepia/test-support/clients/heard';
import type { Output } from '@sepia/test-support/testbed';
import type { Test } from 'tap';

const FIRST_ID = 100_000;
/** Who it is outside, whose its files are, and that it may write to them. */
const SAYS = `
import os
with open("/proc/self/uid_map") as f: print("root is", f.read().split()[1])
print("files are of", os.stat("/usr").st_uid, os.stat("/etc/passwd").st_uid)
with open("/etc/passwd", "a") as f: f.write("#")
`;

/**
 * Runs a container of an image with Python whose root is another user outside.
 * @param way how the client has its files owned: in a copy, or by labels on its snapshot, as the CRI plugin does
 * @param run `ctr run` with these words behind it
 */
export async function runsMapped(
  t: Test,
  dir: string,
  image: string,
  way: 'copied' | 'labelled',
  run: (args: readonly string[]) => Promise<Output>,
): Promise<void> {
  // Its root must get to its files.
  chmodSync(dir, 0o711);
  const mapped = ['--uidmap', `0:${FIRST_ID}:65536`, '--gidmap', `0:${FIRST_ID}:65536`];
  const labels = way === 'labelled' ? ['--remap-labels'] : [];
  const mapping: Runner = {
    run: async (reference, name, command) =>
      await run(['--rm', ...mapped, ...labels, reference, name, ...command]),
  };
  const { stdout, stderr, code } = await runHeard(mapping, image, 'mapped', `python3 -c '${SAYS}'`);
  t.equal(code, 0, stderr);
  t.equal(stdout, `root is ${FIRST_ID}\nfiles are of 0 0\n`, stderr);
  chmodSync(dir, 0o700);
}
