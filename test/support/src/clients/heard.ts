import { type Output, testbed } from '../testbed.ts';

const DONE = 'that was all\n';
const TRIES = 3;

/** What the test bed's Python image runs by itself. */
export const PYTHON_APP = 'python3 /app/main.py';

/** Runs a container to its end. */
export interface Runner {
  run(reference: string, name: string, command: readonly string[]): Promise<Output>;
}

/**
 * What a shell script in a container of an image prints. Of one that ended well and whose own last word is missing too, ctr lost the
 * output (it opened its end of the pipe when the container had ended), as it does on a busy machine with any snapshotter: it runs
 * again, as `NAME-2`. A file that comes back empty is never taken for that.
 */
export async function runHeard(
  runner: Runner,
  reference: string,
  name: string,
  script: string,
): Promise<Output> {
  for (let tries = 1; ; tries += 1) {
    const command = ['/bin/sh', '-c', `${script} && echo ${DONE.trim()}`];
    const ran = await runner.run(reference, `${name}-${tries}`, command);
    if (ran.stdout.endsWith(DONE)) return { ...ran, stdout: ran.stdout.slice(0, -DONE.length) };
    if (tries === TRIES || ran.code !== 0 || ran.stdout !== '') return ran;
  }
}

/** As {@link runHeard}, in a containerd of the test bed: what the script printed. */
export async function heardOn(node: string, reference: string, script: string): Promise<string> {
  const run = async (image: string, _name: string, command: readonly string[]): Promise<Output> =>
    await testbed('containerd.sh', ['run', node, image, ...command]);
  return (await runHeard({ run }, reference, node, script)).stdout;
}
