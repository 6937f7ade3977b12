import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';

export const ROOT = resolve(import.meta.dirname, '..');
/** Folders with a package.json of their own, relative to the root. */
export const WORKSPACES = workspaces();
/** Folder by package name. */
export const PACKAGE_NAMES = new Map(
  WORKSPACES.map((home) => [manifestOf(home)['name'] as unknown as string, home]),
);

/** A TypeScript file of the project. */
export interface SourceFile {
  /** Relative to the root. */
  readonly path: string;
  readonly workspace: string;
  readonly text: string;
  /** The text without comments, strings kept. */
  readonly code: string;
  readonly imports: readonly Import[];
}

export interface Import {
  readonly spec: string;
  readonly isType: boolean;
  /** File relative to the root; undefined for packages and node modules. */
  readonly target: string | undefined;
}

/** All of them, tests too, in order of their paths. */
export const FILES = loadFiles();

/** Sources that are shipped, of services and packages. */
export function isSource(path: string): boolean {
  return path.includes('/src/') && !path.startsWith('test/') && !path.startsWith('bench/');
}

/** A table of how long a workspace waits: numbers alone, of whom each room asks. */
export function isDeadlines(path: string): boolean {
  return /\/src\/deadlines(?:\/[\w-]+)?\.ts$/.test(path);
}

/** The folder that a file lies in; a core is part of its room. The deadlines are a room of their own, below all others. */
export function roomOf(path: string): string {
  if (isDeadlines(path)) return path.replace(/(\/deadlines)[/.].*$/, '$1');
  return dirname(path).replace(/\/core$/, '');
}

/** The workspace that a path lies in: the innermost. */
export function homeOf(path: string): string | undefined {
  return WORKSPACES.filter((home) => path.startsWith(`${home}/`)).sort((a, b) => b.length - a.length)[0];
}

export function manifestOf(workspace: string): Record<string, Record<string, string> | undefined> {
  return JSON.parse(readFileSync(join(ROOT, workspace, 'package.json'), 'utf8'));
}

/** Tarjan's strongly connected components of more than one. */
export function cycles(graph: ReadonlyMap<string, readonly string[]>): string[][] {
  const indexes = new Map<string, number>();
  const lows = new Map<string, number>();
  const stack: string[] = [];
  const found: string[][] = [];
  const visit = (node: string): void => {
    const index = indexes.size;
    indexes.set(node, index);
    lows.set(node, index);
    stack.push(node);
    for (const next of graph.get(node) ?? []) {
      if (!graph.has(next)) continue;
      if (!indexes.has(next)) visit(next);
      if (stack.includes(next)) lows.set(node, Math.min(lows.get(node)!, lows.get(next)!));
    }
    if (lows.get(node) !== index) return;
    const component = stack.splice(stack.indexOf(node));
    if (component.length > 1 || graph.get(node)?.includes(node) === true) found.push(component.sort());
  };
  for (const node of graph.keys()) if (!indexes.has(node)) visit(node);
  return found;
}

function loadFiles(): SourceFile[] {
  const patterns = WORKSPACES.map((name) => `${name}/**/*.ts`);
  const paths = globSync(patterns, {
    cwd: ROOT,
    exclude: (name) => name === 'node_modules' || name.startsWith('.'),
  });
  return [...new Set(paths)]
    .filter((path) => !path.includes('node_modules/') && !path.endsWith('.d.ts'))
    .sort()
    .map((path) => {
      const text = readFileSync(join(ROOT, path), 'utf8');
      const code = withoutComments(text);
      return { path, workspace: homeOf(path)!, text, code, imports: importsOf(path, code) };
    });
}

function importsOf(path: string, code: string): Import[] {
  const statements = [
    ...code.matchAll(/^\s*(?:import|export)\s+(type\s)?([^'"`;]*?\sfrom\s+)?['"]([^'"]+)['"]/gm),
  ];
  const found = statements.map(([, type, names, spec]) => ({
    spec: spec!,
    isType: type !== undefined || onlyTypes(names),
  }));
  const dynamic = [...code.matchAll(/\bimport\(\s*['"]([^'"]+)['"]\s*\)/g)].map(([, spec]) => ({
    spec: spec!,
    isType: false,
  }));
  return [...found, ...dynamic].map((one) => ({ ...one, target: targetOf(path, one.spec) }));
}

/** `{ type A, type B } from` alone leaves nothing to run. */
function onlyTypes(names: string | undefined): boolean {
  const braces = /^\{([^}]*)\}\s+from\s+$/.exec(names ?? '')?.[1];
  return braces?.split(',').every((name) => name.trim() === '' || name.trim().startsWith('type ')) ?? false;
}

function targetOf(path: string, spec: string): string | undefined {
  if (spec.startsWith('.')) return relative(ROOT, resolve(ROOT, dirname(path), spec));
  const [, name = '', rest = 'index'] = /^(@sepia\/[\w-]+)(?:\/(.+))?$/.exec(spec) ?? [];
  const home = PACKAGE_NAMES.get(name);
  return home === undefined ? undefined : `${home}/src/${rest}.ts`;
}

function workspaces(): string[] {
  const { workspaces } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    workspaces: string[];
  };
  return globSync(workspaces, { cwd: ROOT })
    .filter((home) => existsSync(join(ROOT, home, 'package.json')))
    .sort();
}

function withoutComments(text: string): string {
  return text.replace(
    /("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`)|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g,
    (_all, string: string | undefined) => string ?? '',
  );
}
