import { join } from 'node:path';
import { run } from '@sepia/test-support/testbed';

export const MAIN = join(import.meta.dirname, '../../src/main.ts');

/** What a run of the command left. */
export interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs `sepia` with `env` beside this process's. */
export async function sepiaWith(env: Record<string, string>, ...args: string[]): Promise<Outcome> {
  const { code, stdout, stderr } = await run(process.execPath, [MAIN, ...args], env);
  return { code, out: stdout, err: stderr };
}

/** Runs `sepia`. */
export const sepia = async (...args: string[]): Promise<Outcome> => await sepiaWith({}, ...args);
