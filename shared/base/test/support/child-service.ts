import { spawn } from 'node:child_process';
import type { Test } from 'tap';

/** The address of a source of this package, to be imported by a program. */
export const sourceUrl = (path: string): string =>
  JSON.stringify(new URL(`../../src/${path}`, import.meta.url));

/** Runs a program of ES modules as a process of its own; `said`: its standard error until now; `openFiles`: so many it may have. */
export function startProgram(t: Test, source: string, { openFiles }: { readonly openFiles?: number } = {}) {
  const program = [process.execPath, '--input-type=module', '--eval', source];
  const limit = openFiles === undefined ? '' : `ulimit -n ${openFiles} && `;
  const child = spawn('/bin/sh', ['-c', `${limit}exec "$@"`, 'sh', ...program], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'] },
  });
  t.teardown(() => child.kill('SIGKILL'));
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString();
  });
  return { child, said: () => said };
}
