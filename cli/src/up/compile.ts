import { execFile } from 'node:child_process';
import { getCompileCacheDir } from 'node:module';
import { promisify } from 'node:util';
import { ignoreFailure } from '@sepia/base/failure';
import { hasStripper } from '@sepia/base/memory/type-stripper';
import { COMPILE } from '@sepia/base/process';
import { COMPILE_MS } from '../deadlines.ts';
import { mainOfRole } from './member-process.ts';
import { memberEnv, nodeArguments, nodeFlags } from './node-flags.ts';
import type { Role } from './plan.ts';

/** {@link compileRoles} for members that are about to start, where this process was not compiled either; what fails they do themselves. */
export async function compileWhereNew(members: readonly { readonly role: Role }[]): Promise<void> {
  if (!hasStripper() || getCompileCacheDir() === undefined) return;
  await compileRoles(members.map(({ role }) => role)).catch(ignoreFailure);
}

/**
 * Loads each role once as its members will run: they find their sources without types, or in Node's compile cache, which it
 * keeps by flags, and each source is taken once, not by all of them at the same time. Not a snapshotter: its daemon runs with flags of its own.
 * @throws what kept one from loading
 */
async function compileRoles(roles: readonly Role[]): Promise<void> {
  const members = new Set(roles.filter((role) => role !== 'snapshotter'));
  const byFlags = Map.groupBy(members, (role) => nodeFlags(role).join(' '));
  await Promise.all([...byFlags.values()].map(async (alike) => await compileInTurn(alike)));
}

async function compileInTurn(roles: readonly Role[]): Promise<void> {
  for (const role of roles) {
    const args = [...nodeArguments(role, mainOfRole(role)), COMPILE];
    const env = memberEnv(process.env, process.pid, role);
    await promisify(execFile)(process.execPath, args, { timeout: COMPILE_MS, env });
  }
}
