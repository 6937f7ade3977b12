import type { z } from 'zod';
import { ROLES, type Role } from '../up/plan.ts';

/** Whose config a file is. */
export interface RoleGuess {
  readonly role: Role;
  /** Roles that it fits just as well. */
  readonly others: readonly Role[];
}

/** How well a file fits one role. */
interface Fit {
  readonly role: Role;
  readonly faults: number;
  /** Keys that the role has. */
  readonly known: number;
}

/** What printed defaults begin with. */
const HEADER = /^# Config of a Sepia (\w+)\./m;

/**
 * Guesses whose config a file is: that of the role with the fewest faults, then with the most known keys. Where these
 * are alike its name or its heading tells.
 * @param hint the file's name, then on further lines its text
 * @returns undefined for a cluster document
 */
export function guessRole(
  content: unknown,
  hint: string,
  schemas: Readonly<Record<Role, z.ZodType>>,
): RoleGuess | undefined {
  const config = typeof content === 'object' && content !== null ? content : {};
  if ('members' in config || 'upstreams' in config) return undefined;
  const fits = ROLES.map((role) => fitOf(role, config, schemas[role]));
  const best = fits.toSorted((a, b) => a.faults - b.faults || b.known - a.known)[0]!;
  const roles = fits
    .filter((one) => one.faults === best.faults && one.known === best.known)
    .map((one) => one.role);
  const heading = HEADER.exec(hint)?.[1];
  const told = roles.find((role) => hint.startsWith(role)) ?? roles.find((role) => role === heading);
  if (told !== undefined) return { role: told, others: [] };
  return { role: best.role, others: roles.filter((role) => role !== best.role) };
}

function fitOf(role: Role, config: object, schema: z.ZodType): Fit {
  const issues = schema.safeParse(config).error?.issues ?? [];
  let faults = 0;
  let known = Object.keys(config).length;
  for (const issue of issues) {
    const strange = issue.code === 'unrecognized_keys' ? issue.keys.length : 0;
    faults += issue.code === 'unrecognized_keys' ? strange : 1;
    if (issue.path.length === 0) known -= strange;
  }
  return { role, faults, known };
}
