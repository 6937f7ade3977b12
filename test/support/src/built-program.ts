import { execFileSync } from 'node:child_process';

/** What a script that builds a program prints for `--check`: where it is, or undefined where it was not built. */
export function builtProgram(script: string): string | undefined {
  try {
    return execFileSync(script, ['--check'], { encoding: 'utf8' }).trim();
  } catch (error) {
    // 1: not built; anything else is a fault of the script.
    if ((error as { readonly status?: unknown }).status !== 1) throw error;
    return undefined;
  }
}
