import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import t from 'tap';
import { functionsOf } from './functions.ts';
import {
  cycles,
  FILES,
  homeOf,
  type Import,
  isDeadlines,
  isSource,
  manifestOf,
  PACKAGE_NAMES,
  ROOT,
  roomOf,
  type SourceFile,
  WORKSPACES,
} from './sources.ts';

const SERVICES = ['tracker', 'origin', 'agent', 'proxy', 'accelerator', 'snapshotter'] as const;
/** The packages of `shared/`: each may import those above it. */
const LADDER = [
  ...[
    'base',
    'oci',
    'metainfo',
    'http',
    'store',
    'cluster',
    'upstream',
    'backend',
    'records',
    'swarm',
    'face',
  ],
].map((name) => `shared/${name}`);
/** Packages that are pure as a whole, as a core is. */
const PURE_PACKAGES = ['shared/oci', 'shared/metainfo'];
const MAX_LINES = 400;
const MAX_FILES = 20;
const MAX_FUNCTION_LINES = 80;
const MAX_COLUMNS = 160;
/** Who may import whom (docs/adr/0014-the-house.md); tests may import what their workspace may, and the test support. */
const ARROWS: Readonly<Record<string, readonly string[]>> = {
  ...Object.fromEntries(LADDER.map((name, at) => [name, LADDER.slice(0, at)])),
  'shared/lazy': ['shared/base', 'shared/oci', 'shared/metainfo'],
  ...Object.fromEntries(SERVICES.map((service) => [service, [...LADDER, 'shared/lazy']])),
  cli: [...LADDER, 'shared/lazy', ...SERVICES, 'sim'],
  sim: [...LADDER, 'shared/lazy', 'origin', 'tracker'],
  bench: [...LADDER, 'shared/lazy', ...SERVICES, 'cli', 'sim', 'test/support'],
  test: [...LADDER, 'shared/lazy', ...SERVICES, 'cli', 'sim', 'test/support'],
  'test/support': [...LADDER, 'shared/lazy', ...SERVICES],
};
/** What a pure core must not reach: I/O, time, chance, waiting. */
const IMPURE: readonly [RegExp, string][] = [
  [/\bDate\b(?!\s*:)/, 'Date'],
  [/\bMath\.random\b|\brandom(?:Bytes|UUID|Int|Fill)/, 'chance'],
  [/\bperformance\b/, 'performance'],
  [/\b(?:setTimeout|setInterval|setImmediate|queueMicrotask)\b/, 'a timer'],
  [/\bawait\b/, 'await'],
  [/\bprocess\./, 'process'],
  [/\bBuffer\.(?:alloc|allocUnsafe)Slow\b|(?<![.#\w])fetch\(/, 'I/O'],
];
/** Parts of the packages that do I/O; a core may use the rest. */
const SHARED_IO =
  /^shared\/(?:(?:http|store|upstream|backend)\/src\/(?!core\/)|face\/src\/(?!access\/)|base\/src\/(?:process|log|metrics|config\/load)|swarm\/src\/(?!core\/|limits|swarm-id))/;

/** Packages of others that are functions of their input alone. */
const PURE_FOREIGN = ['bencode', 'ipaddr.js', 'tldts'];
/** What of Node a pure package may use: functions of bytes. */
const PURE_NODE = ['node:crypto', 'node:zlib', 'node:buffer'];

/** What a core may come to by its imports: functions of bytes and texts. */
const REACHED = [...PURE_NODE, 'bencode', 'zod', 'picomatch', 'ipaddr.js', 'tldts'];
/** Reads addresses and compares them: all that it takes of `node:net`. */
const ADDRESSES = 'shared/base/src/networks.ts';

t.test('sources were found', async (t) => {
  for (const name of ['cli', ...SERVICES])
    t.ok(FILES.filter((file) => file.workspace === name).length > 3, name);
  for (const name of LADDER) t.ok(FILES.filter((file) => file.workspace === name).length > 1, name);
  t.ok(FILES.some((file) => file.imports.length > 5));
});

t.test('workspaces import only what they may', async (t) => {
  const wrong: string[] = [];
  for (const file of FILES) {
    const allowed = [
      file.workspace,
      ...(ARROWS[file.workspace] ?? []),
      ...(isTest(file) ? ['test/support'] : []),
    ];
    for (const one of file.imports) {
      const other = workspaceOf(one);
      if (other !== undefined && !allowed.includes(other)) wrong.push(`${file.path} imports ${one.spec}`);
      if (one.spec.startsWith('.') && other !== file.workspace && !isTest(file) && file.workspace !== 'bench')
        wrong.push(`${file.path} reaches into ${one.spec}; import it by its workspace's name`);
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
      if (name !== undefined && PACKAGE_NAMES.get(name) !== file.workspace && !declared.has(name))
        wrong.push(`${file.path}: ${one.spec}`);
    }
  }
  t.same(wrong, []);
});

t.test('cores and pure packages are pure', async (t) => {
  const cores = FILES.filter(
    (file) =>
      /\/src\/(?:.*\/)?core\//.test(file.path) ||
      isDeadlines(file.path) ||
      (isPure(file.workspace) && file.path.includes('/src/')),
  );
  t.ok(cores.length > 5, 'there are cores');
  const wrong: string[] = [];
  for (const file of cores) {
    for (const one of file.imports.filter((each) => !each.isType)) {
      if (isPure(file.workspace) && PURE_NODE.includes(one.spec)) continue;
      if (!isPureImport(one)) wrong.push(`${file.path} imports ${one.spec}`);
    }
    const bare = withoutStrings(file.code);
    for (const [pattern, what] of IMPURE) if (pattern.test(bare)) wrong.push(`${file.path} uses ${what}`);
  }
  t.same(wrong, []);
});

t.test('no core reaches I/O, by however many imports, those of types included', async (t) => {
  const byPath = new Map(FILES.map((file) => [file.path, file]));
  const wrong = new Set<string>();
  for (const core of FILES.filter((file) => /\/src\/(?:.*\/)?core\//.test(file.path))) {
    const reached = new Map<string, string | undefined>([[core.path, undefined]]);
    for (const [path] of reached) {
      for (const one of byPath.get(path)?.imports ?? []) {
        if (one.target !== undefined) {
          if (!reached.has(one.target)) reached.set(one.target, path);
        } else if (!REACHED.includes(one.spec) && !(one.spec === 'node:net' && path === ADDRESSES))
          wrong.add(`${[one.spec, ...wayTo(reached, path)].join(' < ')}`);
      }
    }
  }
  t.same([...wrong], []);
});

t.test('the formats of lazy layers know neither files nor sockets', async (t) => {
  const reaches = FILES.filter((file) => file.path.startsWith('shared/lazy/src/')).flatMap((file) =>
    file.imports
      .filter((one) =>
        /^(?:node:(?:fs|net|tls|dgram|http|https|http2|child_process)|undici|koa)/.test(one.spec),
      )
      .map((one) => `${file.path} imports ${one.spec}`),
  );
  t.same(reaches, []);
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

t.test('rooms form no circle, types included', async (t) => {
  const graph = new Map<string, string[]>();
  for (const file of FILES.filter(({ path }) => isSource(path))) {
    const room = roomOf(file.path);
    const others = file.imports.flatMap(({ target }) =>
      target !== undefined && isSource(target) && roomOf(target) !== room ? [roomOf(target)] : [],
    );
    graph.set(room, [...(graph.get(room) ?? []), ...others]);
  }
  t.ok(graph.size > 50, 'there are rooms');
  t.same(cycles(graph), [], 'move the file, or ask for what is needed by an interface of its own');
});

t.test(`no file is longer than ${MAX_LINES} lines`, async (t) => {
  const long = FILES.map((file) => ({ path: file.path, lines: file.text.split('\n').length - 1 })).filter(
    (file) => file.lines > MAX_LINES,
  );
  t.same(long, []);
});

t.test(`no function is longer than ${MAX_FUNCTION_LINES} lines`, async (t) => {
  const functions = FILES.filter(({ path }) => isSource(path)).flatMap(({ path, text }) =>
    functionsOf(path, text),
  );
  t.ok(functions.length > 3_000, 'functions were found');
  const long = functions
    .filter(({ lines }) => lines > MAX_FUNCTION_LINES)
    .map(({ path, at, name, lines }) => `${path}:${at} ${name} has ${lines}`);
  t.same(long, []);
});

t.test(`no folder has more than ${MAX_FILES} source files`, async (t) => {
  const counts = new Map<string, number>();
  for (const { path } of FILES) counts.set(dirname(path), (counts.get(dirname(path)) ?? 0) + 1);
  t.same(
    [...counts].filter(([, count]) => count > MAX_FILES),
    [],
  );
});

t.test('the README lists every workspace, and no other', async (t) => {
  const readme = readFileSync(join(ROOT, 'README.md'), 'utf8');
  const rows = [...readme.matchAll(/^\|\s*\[`?([\w-]+)\/?`?\]\(/gm)].map((row) => row[1]!);
  t.same(
    WORKSPACES.filter((name) => !rows.includes(name.split('/')[0]!)),
    [],
    'each workspace, or the folder that it lies in, has a row that begins with | [name](name)',
  );
  const folders = rows.filter((name) => existsSync(join(ROOT, name, 'package.json')));
  t.same(
    folders.filter((name) => !WORKSPACES.includes(name)),
    [],
  );
});

t.test('every workspace says what it is in a README.md', async (t) => {
  t.same(
    WORKSPACES.filter((home) => !existsSync(join(ROOT, home, 'README.md'))),
    [],
  );
});

t.test('the README of a workspace names every room of its sources', async (t) => {
  const rooms = new Set(
    FILES.filter(({ path }) => isSource(path)).flatMap(({ path, workspace }) => {
      const [room, ...below] = path.slice(`${workspace}/src/`.length).split('/');
      return below.length === 0 ? [] : [`${workspace} ${room}`];
    }),
  );
  t.ok(rooms.size > 50, 'there are rooms');
  const readmes = new Map(
    WORKSPACES.map((home) => [home, readFileSync(join(ROOT, home, 'README.md'), 'utf8')]),
  );
  t.same(
    [...rooms].filter((one) => {
      const [home = '', room = ''] = one.split(' ');
      return !new RegExp(`\\b${room}[/\`]`).test(readmes.get(home) ?? '');
    }),
    [],
  );
});

t.test(`prose has lines of at most ${MAX_COLUMNS} columns`, async (t) => {
  const long = globSync(['*.md', '*/**/*.md'], {
    cwd: ROOT,
    exclude: (name) => name.includes('node_modules'),
  }).flatMap((page) => longLines(page, readFileSync(join(ROOT, page), 'utf8')));
  t.same(long, []);
});

t.test('what READMEs, ADRs and pages name is there', async (t) => {
  const wrong: string[] = [];
  let seen = 0;
  for (const page of globSync(
    ['*.md', '*/README.md', 'shared/*/README.md', 'test/support/README.md', 'docs/**/*.md'],
    { cwd: ROOT },
  )) {
    const text = readFileSync(join(ROOT, page), 'utf8');
    for (const [, link] of text.matchAll(/\]\((?![a-z]+:|#)([^)#\s]+)[^)]*\)/g)) {
      seen += 1;
      if (!existsSync(resolve(ROOT, dirname(page), link!))) wrong.push(`${page}: ${link}`);
    }
    for (const [, path] of text.matchAll(
      /`((?:shared|tracker|origin|agent|proxy|cli|sim|bench|test)\/[\w./-]+\.ts)`/g,
    )) {
      seen += 1;
      if (!existsSync(join(ROOT, path!))) wrong.push(`${page}: ${path}`);
    }
  }
  t.ok(seen > 60, 'there are links and paths');
  t.same(wrong, []);
});

t.test('docs/adr/README.md lists every record once', async (t) => {
  const index = readFileSync(join(ROOT, 'docs/adr/README.md'), 'utf8');
  const listed = [...index.matchAll(/\]\((\d{4}-[\w-]+\.md)\)/g)].map((link) => link[1]!);
  t.same(listed.toSorted(), globSync('[0-9]*.md', { cwd: join(ROOT, 'docs/adr') }).toSorted());
});

t.test('sources cite only what is in the repository', async (t) => {
  const foreign = FILES.flatMap(({ path, text }) =>
    [...text.matchAll(/\((?:design|house|style)(?:\.md)?[,: ]+"/g)].map(() => path),
  );
  t.same(foreign, []);
});

t.test('one pull of the README passes through every service and the packages that carry it', async (t) => {
  const walk = /## One pull[\s\S]*?(?=\n## )/.exec(readFileSync(join(ROOT, 'README.md'), 'utf8'))?.[0] ?? '';
  const files = [...walk.matchAll(/\]\(([\w./-]+)\)/g)].map((link) => link[1]!);
  t.same(
    files.filter((file) => !FILES.some((each) => each.path === file)),
    [],
    'each is a source file',
  );
  // An ordinary pull: layers that start before they are downloaded have their own picture, in snapshotter/README.md.
  for (const home of [
    ...SERVICES.filter((service) => service !== 'snapshotter' && service !== 'accelerator'),
    'shared/face',
    'shared/records',
    'shared/upstream',
    'shared/swarm',
    'shared/store',
  ])
    t.ok(
      files.some((file) => file.startsWith(`${home}/`)),
      home,
    );
});

t.test('docs/architecture.md answers ten questions, each with one source file', async (t) => {
  const page = readFileSync(join(ROOT, 'docs/architecture.md'), 'utf8');
  const table = /## Ten questions[\s\S]*?(?=\n## )/.exec(page)?.[0] ?? '';
  const rows = table.match(/^\| [^|]*\? \|.*$/gm) ?? [];
  t.equal(rows.length, 10);
  for (const row of rows) {
    const files = [...row.matchAll(/\]\(\.\.\/([\w./-]+)\)/g)].map((link) => link[1]!);
    t.equal(files.length, 1, row);
    t.ok(
      FILES.some((each) => each.path === files[0]),
      files[0] ?? row,
    );
  }
});

t.test('every workspace has a tsconfig.json that extends the base', async (t) => {
  for (const home of WORKSPACES) {
    const file = join(ROOT, home, 'tsconfig.json');
    const { extends: base } = JSON.parse(readFileSync(file, 'utf8')) as { extends: string };
    t.equal(resolve(dirname(file), base), join(ROOT, 'tsconfig.base.json'), home);
  }
});

/** Lines of a page beyond the columns, but for code, tables and headings, which cannot be wrapped. */
function longLines(page: string, text: string): string[] {
  let isCode = false;
  return text.split('\n').flatMap((line, at) => {
    if (/^\s*```/.test(line)) isCode = !isCode;
    const isWhole = isCode || /^\s*[|#<]/.test(line);
    return isWhole || line.length <= MAX_COLUMNS ? [] : [`${page}:${at + 1}`];
  });
}

/** The files by which one was reached, itself first. */
function wayTo(reached: ReadonlyMap<string, string | undefined>, path: string): string[] {
  const before = reached.get(path);
  return before === undefined ? [path] : [path, ...wayTo(reached, before)];
}

function workspaceOf(one: Import): string | undefined {
  return one.target === undefined ? undefined : homeOf(one.target);
}

function isTest(file: SourceFile): boolean {
  return file.path.includes('/test/') || file.workspace === 'test';
}

function isPure(workspace: string): boolean {
  return PURE_PACKAGES.includes(workspace);
}

function isPureImport(one: Import): boolean {
  if (one.target === undefined) return PURE_FOREIGN.includes(one.spec);
  if (isDeadlines(one.target)) return true;
  if (one.target.startsWith('shared/')) return !SHARED_IO.test(one.target);
  return /\/core\//.test(one.target) || /\/src\/config\.ts$/.test(one.target);
}

function dependenciesOf(workspace: string): ReadonlySet<string> {
  const manifest = manifestOf(workspace);
  return new Set(Object.keys({ ...manifest['dependencies'], ...manifest['devDependencies'] }));
}

function withoutStrings(code: string): string {
  return code.replace(/"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'/g, "''");
}
