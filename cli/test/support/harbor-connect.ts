import { join } from 'node:path';
import { FakeHarbor } from '@sepia/test-support/upstream/fake-harbor';
import type { Test } from 'tap';
import { type Outcome, sepia } from './sepia.ts';

/** The proxy that Harbor is connected to. */
export const PROXY = 'https://sepia.example.com:17300';

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
