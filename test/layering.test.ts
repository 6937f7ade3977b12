import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import t from 'tap';

const ROOT = resolve(import.meta.dirname, '..');
const SERVICES = ['tracker', 'origin', 'agent', 'proxy'] as const;
const WORKSPACES = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')).workspaces as string[];
/** Folder of each workspace by its package's name. */
const FOLDERS: ReadonlyMap<string, string> = new Map(
  WORKSPACES.map((folder) => [
    (JSON.parse(readFileSync(join(ROOT, folder, 'package.json'), 'utf8')) as { name: string }).name,
    folder,
  ]),
);
const MAX_LINES = 400;
/** Who may import whom (design, "The house"); tests may import what their workspace may. */
const ARROWS: Readonly<Record<string, readonly string[]>> = {
  shared: [],
  'shared/lazy': ['shared'],
  ...Object.fromEntries(SERVICES.map((service) => [service, ['shared', 'shared/lazy']])),
  cli: ['shared', 'shared/lazy', ...SERVICES, 'sim'],
  sim: ['shared'],
  bench: ['shared', 'shared/lazy', ...SERVICES, 'cli', 'sim', 'test'],
  test: ['shared', 'shared/lazy', ...SERVICES, 'cli', 'sim'],
};
/** What a pure core must not reach: I/O, time, chance, waiting. */
const IMPURE: readonly [RegExp, string][] = [
  [/\bDate\b(?!\s*:)/, 'Date'],
  [/\bMath\.random\b/, 'Math.random'],
  [/\bperformance\b/, 'performance'],
  [/\b(?:setTimeout|setInterval|setImmediate|queueMicrotask)\b/, 'a timer'],
  [/\bawait\b/, 'await'],
  [/\bprocess\./, 'process'],
  [/\bBuffer\.(?:alloc|allocUnsafe)Slow\b|(?<![.#\w])fetch\(/, 'I/O'],
];
/** Parts of `shared` that do I/O; a core may use the rest. */
const SHARED_IO =
  /^(?:http|store|process|log|metrics|config\/load|registry\/(?:client|face)|swarm\/(?!core\/|limits|swarm-id))/;

interface SourceFile {
  /** Relative to the root. */
  readonly path: string;
  readonly workspace: string;
  readonly text: string;
  /** The text without comments, strings kept. */
  readonly code: string;
  readonly imports: readonly Import[];
}

interface Import {
  readonly spec: string;
  readonly isType: boolean;
  /** File relative to the root; undefined for packages and node modules. */
  readonly target: string | undefined;
}

const FILES = loadFiles();

t.test('sources were found', async (t) => {
  for (const name of ['shared', 'cli', ...SERVICES])
    t.ok(FILES.filter((file) => file.workspace === name).length > 3, name);
  t.ok(FILES.some((file) => file.imports.length > 5));
});

t.test('workspaces import only what they may', async (t) => {
  const wrong: string[] = [];
  for (const file of FILES) {
    const allowed = [file.workspace, ...(ARROWS[file.workspace] ?? []), ...(isTest(file) ? ['test'] : [])];
    for (const one of file.imports) {
      const other = workspaceOf(one);
      if (other !== undefined && !allowed.includes(other)) wrong.push(`${file.path} imports ${one.spec}`);
      if (
        one.target !== undefined &&
        one.spec.startsWith('.') &&
        other !== file.workspace &&
        !isTest(file) &&
        file.workspace !== 'bench'
      ) {
        wrong.push(`${file.path} reaches into ${one.spec}; import it by its workspace's name`);
      }
    }
  }
  t.same(wrong, []);
});

t.test('what is imported from another workspace is declared as its dependency', async (t) => {
  const wrong: string[] = [];
  for (const file of FILES.filter((one) => !isTest(one))) {
    const declared = dependenciesOf(file.workspace);
    for (const one of file.imports) {
      const name = /^@sepia\/[\w-]+/.exec(one.spec)?.[0];
      if (name !== undefined && FOLDERS.get(name) !== file.workspace && !declared.has(name))
        wrong.push(`${file.path}: ${one.spec}`);
    }
  }
  t.same(wrong, []);
});

t.test('cores are pure', async (t) => {
  const cores = FILES.filter((file) => /\/src\/(?:.*\/)?core\//.test(file.path));
  t.ok(cores.length > 5, 'there are cores');
  const wrong: string[] = [];
  for (const file of cores) {
    for (const one of file.imports.filter((each) => !each.isType)) {
      if (!isPureImport(one)) wrong.push(`${file.path} imports ${one.spec}`);
    }
    const bare = withoutStrings(file.code);
    for (const [pattern, what] of IMPURE) if (pattern.test(bare)) wrong.push(`${file.path} uses ${what}`);
  }
  t.same(wrong, []);
});

t.test('there is no import cycle', async (t) => {
  const graph = new Map(
    FILES.map((file) => [
      file.path,
      file.imports.filter((one) => !one.isType && one.target !== undefined).map((one) => one.target!),
    ]),
  );
  t.same(cycles(graph), []);
});

t.test(`no file is longer than ${MAX_LINES} lines`, async (t) => {
  const long = FILES.map((file) => ({ path: file.path, lines: file.text.split('\n').length - 1 })).filter(
    (file) => file.lines > MAX_LINES,
  );
  t.same(long, []);
});

t.test('the README lists every workspace, and no other', async (t) => {
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');
  const rows = [...readme.matchAll(/^\|\s*\[`?([\w-]+(?:\/[\w-]+)*)\/?`?\]\(/gm)].map((row) => row[1]!);
  t.same(
    WORKSPACES.filter((name) => !rows.includes(name)),
    [],
    'each workspace has a row that begins with | [name](name)',
  );
  const folders = rows.filter((name) => existsSync(join(ROOT, name, 'package.json')));
  t.same(
    folders.filter((name) => !WORKSPACES.includes(name)),
    [],
  );
});

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
      return { path, workspace: workspaceAt(path) ?? '', text, code, imports: importsOf(path, code) };
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
  const [, name, rest] = /^(@sepia\/[\w-]+)(?:\/(.+))?$/.exec(spec) ?? [];
  if (name === undefined) return undefined;
  return `${FOLDERS.get(name) ?? name}/src/${rest ?? 'index'}.ts`;
}

function workspaceOf(one: Import): string | undefined {
  return one.target === undefined ? undefined : workspaceAt(one.target);
}

/** The innermost workspace that holds a file. */
function workspaceAt(path: string): string | undefined {
  return WORKSPACES.filter((folder) => path.startsWith(`${folder}/`)).sort((a, b) => b.length - a.length)[0];
}

function isTest(file: SourceFile): boolean {
  return file.path.includes('/test/') || file.workspace === 'test';
}

function isPureImport(one: Import): boolean {
  if (one.target === undefined) return false;
  if (one.target.startsWith('shared/src/')) return !SHARED_IO.test(one.target.slice('shared/src/'.length));
  return /\/core\//.test(one.target) || /\/src\/config\.ts$/.test(one.target);
}

function dependenciesOf(workspace: string): ReadonlySet<string> {
  const manifest = JSON.parse(readFileSync(join(ROOT, workspace, 'package.json'), 'utf8')) as Record<
    string,
    Record<string, string> | undefined
  >;
  return new Set(Object.keys({ ...manifest['dependencies'], ...manifest['devDependencies'] }));
}

/** Tarjan's strongly connected components with more than one file. */
function cycles(graph: ReadonlyMap<string, readonly string[]>): string[][] {
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

function withoutComments(text: string): string {
  return text.replace(
    /("(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\.)*`)|\/\*[\s\S]*?\*\/|\/\/[^\n]*/g,
    (_all, string: string | undefined) => string ?? '',
  );
}

function withoutStrings(code: string): string {
  return code.replace(/"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/g, "''");
}
