import { isCoded } from '@sepia/base/errors';
import type { ResolvedName } from '@sepia/base/names/upstream-name';

/** The repository that `from` of a cross-repository mount names; undefined where the name belongs to no upstream here. */
export function mountSource(from: string, resolve: (name: string) => ResolvedName): ResolvedName | undefined {
  try {
    return resolve(from);
  } catch (error) {
    if (isCoded(error, 'NAME_INVALID')) return undefined;
    throw error;
  }
}
