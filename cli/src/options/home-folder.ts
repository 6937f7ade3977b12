import { homedir } from 'node:os';
import { throwIfBug } from '@sepia/base/failure';

/** The home of the user that this runs as; undefined for one without: no `HOME`, and an id that the system does not know. */
export function homeFolder(find: () => string = homedir): string | undefined {
  try {
    return find();
  } catch (error) {
    throwIfBug(error);
    return undefined;
  }
}
