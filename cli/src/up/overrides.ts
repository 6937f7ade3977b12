import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { loadConfig } from '@sepia/base/config/load';
import { CodedError } from '@sepia/base/errors';
import { isObject } from '@sepia/base/json/plain-object';
import { z } from 'zod';
import { isThere } from './is-there.ts';
import { ROLES, type Role } from './plan.ts';

type Keys = Readonly<Record<string, unknown>>;

/** Keys that `sepia up` decides: members would not find each other with others. */
const RESERVED = new Set([
  'id',
  'data',
  'cluster-key-file',
  'cluster-document',
  'admin-listen',
  'listen',
  'peer-listen',
]);

/**
 * Further config keys of all members of a role, from `overrides/ROLE.yaml` in the cluster's folder; empty without it.
 * Paths in it are relative to the folder `configs`, where they end up. @throws {CodedError} `CONFIG_INVALID` that names file and key
 */
export function overridesOf(root: string, role: Role): Keys {
  const file = overridesFile(root, role);
  if (!isThere(file)) return {};
  const value = loadConfig(file, z.unknown());
  if (!isObject(value))
    throw new CodedError('CONFIG_INVALID', {
      message: `${file}: holds no keys; write lines of the form KEY: VALUE, see docs/config.md for the keys`,
    });
  const reserved = Object.keys(value).find((key) => RESERVED.has(key));
  if (reserved !== undefined)
    throw new CodedError('CONFIG_INVALID', { message: `${file}: ${reserved}: is decided by "sepia up"` });
  return value;
}

/** The file of a role that {@link overridesOf} reads. */
export function overridesFile(root: string, role: Role): string {
  return join(root, 'overrides', `${role}.yaml`);
}

/** Refuses a file beside those that are read, as of a misspelt role: nobody would learn that it says nothing. @throws {CodedError} `CONFIG_INVALID` */
export function checkOverrideNames(root: string): void {
  const folder = join(root, 'overrides');
  const names = isThere(folder) ? readdirSync(folder) : [];
  const read = new Set(ROLES.map((role) => `${role}.yaml`));
  const stray = names.find((name) => /^[^.].*\.ya?ml$/.test(name) && !read.has(name));
  if (stray === undefined) return;
  throw new CodedError('CONFIG_INVALID', {
    message: `${join(folder, stray)}: is read by nobody; a file there is named ROLE.yaml, of ${ROLES.join(', ')}`,
  });
}

/** `over` laid over `base`: sections key by key, everything else whole. */
export function laidOver(base: Keys, over: Keys): Keys {
  const merged: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const before = merged[key];
    merged[key] = isObject(before) && isObject(value) ? laidOver(before, value) : value;
  }
  return merged;
}
