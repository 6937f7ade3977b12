import { registerHooks } from 'node:module';
import type { SabotageName } from './names.ts';

/** Modules that ship, and the one of `broken/` that stands before each. */
const BROKEN: Readonly<Partial<Record<SabotageName, string>>> = {
  'empty-acceptor-votes': '@sepia/records/core/standing',
  'owner-skipped': '@sepia/records/core/standing',
  'promise-forgotten': '@sepia/records/register/register',
  'merge-depends-on-order': '@sepia/records/core/join',
  'accept-forgotten': '@sepia/records/register/register',
  'owners-unwritten': '@sepia/records/register/register-client',
  'tag-frozen': '@sepia/records/register/register',
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

/** A module that all processes of a role load first, to be broken themselves. */
export interface Preload {
  readonly role: 'origin' | 'proxy';
  /** Its URL. */
  readonly module: string;
}

/** Sabotages that only the rounds can see. */
const LIARS: Readonly<Partial<Record<SabotageName, Preload['role']>>> = {
  'chunk-dropped': 'proxy',
  'accept-forgotten': 'origin',
  'owners-unwritten': 'origin',
  'tag-frozen': 'origin',
};

/** What members load first, so that liars are among them; undefined if this breaks no process. */
export function preloadOf(name: SabotageName | undefined): Preload | undefined {
  const role = name === undefined ? undefined : LIARS[name];
  if (role === undefined) return undefined;
  const file = role === 'proxy' ? `./broken/${name}.ts` : `./preload.ts?name=${name}`;
  return { role, module: new URL(file, import.meta.url).href };
}
