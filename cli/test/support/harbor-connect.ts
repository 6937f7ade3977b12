import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { FakeHarbor } from '@sepia/test-support/upstream/fake-harbor';
import type { Test } from 'tap';

/** The proxy that Harbor is connected to. */
export const PROXY = 'https://sepia.example.com:17300';

/** What a run of the command left. */
interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs `sepia` with `env` beside this process's. */
export async function sepia(env: Record<string, string>, ...args: string[]): Promise<Outcome> {
  const main = join(import.meta.dirname, '../../src/main.ts');
  return await new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], { env: { ...process.env, ...env } }, (error, out, err) =>
      resolve({ code: typeof error?.code === 'number' ? error.code : error === null ? 0 : -1, out, err }),
    );
  });
}

/** A Harbor of its own with `projects`, a folder with secrets, and `sepia harbor connect` to it. */
export async function setUp(t: Test, projects = ['library', 'team.a']) {
  const harbor = await FakeHarbor.start(projects, 'Harbor12345');
  t.teardown(() => harbor.stop());
  const dir = t.testdir({
    password: 'Harbor12345\n',
    hook: 'Hook s3cret\n',
    driver: 'd-s3cret\n',
    wrong: 'nope',
  });
  const run = async (...args: string[]): Promise<Outcome> =>
    await sepia(
      {},
      'harbor',
      'connect',
      harbor.url,
      '--proxy',
      PROXY,
      '--projects',
      ...projects,
      '--password-file',
      join(dir, 'password'),
      ...args,
    );
  return { harbor, dir, run };
}
