import { registerHooks } from 'node:module';
import type { SabotageName } from './names.ts';

/** Modules that ship, and the one of `broken/` that stands before each. */
const BROKEN: Readonly<Partial<Record<SabotageName, string>>> = {
  'empty-acceptor-votes': '@sepia/records/core/standing',
  'owner-skipped': '@sepia/records/core/standing',
  'promise-forgotten': '@sepia/records/register/register',
  'merge-depends-on-order': '@sepia/records/core/join',
};

/**
 * Breaks a rule in this process: who imports the module that has it gets the one of `broken/`, which wraps it. Nothing
 * that ships knows of this; it works only for modules that were not loaded yet.
 */
export function sabotage(name: SabotageName): void {
  const module = BROKEN[name];
  if (module === undefined) return;
  const shipped = import.meta.resolve(module);
  const broken = new URL(`./broken/${name}.ts`, import.meta.url).href;
  registerHooks({
    resolve(specifier, context, next) {
      const found = next(specifier, context);
      return found.url === shipped && context.parentURL !== broken ? { ...found, url: broken } : found;
    },
  });
}

/** What a member's process loads first, to be broken itself; undefined if this breaks no process. */
export function preloadOf(name: SabotageName | undefined): string | undefined {
  return name === 'chunk-dropped' ? new URL('./broken/chunk-dropped.ts', import.meta.url).href : undefined;
}
