import { lstatSync } from 'node:fs';

/**
 * Whether something lies at a path. A link that leads nowhere is something, as to a disk that is not mounted, and so is what the
 * system does not let be looked at: made anew, a key would be another one, and a document without its accounts.
 * @throws what the system says where it does not tell
 */
export function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}
