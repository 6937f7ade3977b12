import type { Action } from './rules.ts';

/** A scope of the token specification that names a repository; `name` as the client wrote it, unchecked. */
export interface RepositoryScope {
  readonly name: string;
  /** In the words of the specification: pull, push, delete, `*`. */
  readonly actions: readonly string[];
}

const MAX_SCOPES = 64;
const MAX_SCOPE_CHARS = 1024;

/** Scopes of a request: repeated, or several in one value with blanks between; too many or too long ones are left out. */
export function splitScopes(values: readonly string[]): string[] {
  const all = values.flatMap((value) => value.split(' ')).filter((scope) => scope !== '');
  return [...new Set(all)].filter((scope) => scope.length <= MAX_SCOPE_CHARS).slice(0, MAX_SCOPES);
}

/** Reads `repository[(class)]:NAME:ACTION,…`; undefined for other resources. A name may hold a host with a port. */
export function parseRepositoryScope(scope: string): RepositoryScope | undefined {
  const found = /^repository(?:\([a-z0-9]+\))?:(.+):([a-z*,]*)$/.exec(scope);
  if (found === null) return undefined;
  const actions = (found[2] ?? '').split(',').filter((action) => action !== '');
  return { name: found[1]!, actions };
}

/** A scope as token requests write it: `repository:NAME:pull,push`. */
export function repositoryScope(repository: string, actions: readonly string[]): string {
  return `repository:${repository}:${actions.join(',')}`;
}

/** Our actions behind a scope's words. */
export function actionsOf(words: readonly string[]): Set<Action> {
  const found = new Set<Action>();
  for (const word of words) {
    if (word === 'pull' || word === '*') found.add('read');
    if (word === 'push' || word === '*') found.add('write');
    if (word === 'delete' || word === '*') found.add('delete');
  }
  return found;
}
