import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { DRIVER_PREFIXES, OPEN_ROUTES } from '@sepia/http/open-routes';
import t from 'tap';
import { FILES, isSource, ROOT } from './sources.ts';

/** The schema and tables of PostgreSQL, which are named alike. */
const NO_METRICS = new Set(['sepia_records', 'sepia_schema']);
/** Gauges whose names are put together from these ends. */
const ENDS = { sepia_origin_write_back_: ['waiting', 'dead', 'oldest_seconds'] };
/** Of the table of docs/numbers.md: more belongs into a page of docs/numbers/. */
const MAX_CELL = 160;

/** Names of metrics that sources write out; `<role>` where that is put in. */
function namesInSources(): string[] {
  const found = new Set<string>();
  for (const { text } of FILES.filter(({ path }) => isSource(path)))
    for (const [, name] of text.matchAll(/['"`](sepia_[a-z0-9_]*(?:\$\{\w+\}[a-z0-9_]*)?)['"`]/g)) {
      const ends = Object.entries(ENDS).find(([begin]) => name!.startsWith(`${begin}$`));
      if (ends !== undefined) for (const end of ends[1]) found.add(`${ends[0]}${end}`);
      else if (!NO_METRICS.has(name!)) found.add(name!.replace(/\$\{\w+\}/, '<role>'));
    }
  return [...found].toSorted();
}

t.test('docs/metrics.md lists every metric once, and says of each what the source says', async (t) => {
  const page = readFileSync(join(ROOT, 'docs/metrics.md'), 'utf8');
  const rows = [...page.matchAll(/^\| `(sepia_[^`]+)` \| (\w+) \| [^|]* \| (.+) \|$/gm)];
  t.ok(rows.length > 70, 'there are rows');
  t.same(rows.map((row) => row[1]!).toSorted(), namesInSources());
  const sources = FILES.filter(({ path }) => isSource(path))
    .map(({ text }) => text.replaceAll("\\'", "'"))
    .join('\n');
  for (const [, name = '', kind, meaning] of rows) {
    t.match(kind, /^(?:counter|gauge|histogram)$/, name);
    t.equal(kind === 'counter', name.endsWith('_total'), `${name}: a counter ends in _total`);
    t.ok(sources.includes(meaning!), `${name}: ${meaning}`);
  }
});

t.test('docs/internal-api.md lists what is open without a signature, and nothing else', async (t) => {
  const page = readFileSync(join(ROOT, 'docs/internal-api.md'), 'utf8');
  const section = /## Open without a signature[\s\S]*?(?=\n## |$)/.exec(page)?.[0] ?? '';
  const listed = [...section.matchAll(/^\| (\w+) \| `([^`]+)` \|/gm)].map(
    ([, home, path]) => `${home} ${path}`,
  );
  const open = Object.entries(OPEN_ROUTES).flatMap(([home, routes]) =>
    Object.keys(routes)
      .filter((path) => !DRIVER_PREFIXES.some((prefix) => prefix !== '' && path.startsWith(`${prefix}/`)))
      .map((path) => `${home} ${path}`),
  );
  t.ok(open.length > 30, 'there are some');
  t.same(listed.toSorted(), open.toSorted());
});

t.test('the picture in shared/README.md says what each package imports, beside base', async (t) => {
  const page = readFileSync(join(ROOT, 'shared/README.md'), 'utf8');
  const picture = /```\n([\s\S]*?)```/.exec(page)?.[1] ?? '';
  const told = [...picture.matchAll(/(\w+) {2,}\w[\w ']*? *← ((?:\w+ ?)+)/g)].map(
    ([, name, list]) => `${name} ← ${list!.trim().split(' ').toSorted().join(' ')}`,
  );
  const imports = new Map<string, Set<string>>();
  for (const { path, imports: all } of FILES) {
    const [, name] = /^shared\/(\w+)\/src\//.exec(path) ?? [];
    if (name === undefined) continue;
    const those = imports.get(name) ?? new Set<string>();
    imports.set(name, those);
    for (const { spec } of all) {
      const [, other = 'base'] = /^@sepia\/(\w+)\//.exec(spec) ?? [];
      if (other !== 'base') those.add(other);
    }
  }
  const found = [...imports]
    .filter(([, those]) => those.size > 0)
    .map(([name, those]) => `${name} ← ${[...those].toSorted().join(' ')}`);
  t.ok(found.length >= 9, 'there are packages');
  t.same(told.toSorted(), found.toSorted());
});

t.test('docs/numbers.md has a row of short cells for each figure, made by what is there', async (t) => {
  const lines = readFileSync(join(ROOT, 'docs/numbers.md'), 'utf8').split('\n');
  const rows = lines.filter((line) => /^\| (?:–|[NL]\d)/.test(line));
  t.ok(rows.length > 50, 'there are rows');
  const benches = globSync(['bench/src/*.ts', 'bench/src/{members,swarm}/*.ts'], { cwd: ROOT }).map((path) =>
    path.replace(/^.*\/|\.ts$/g, ''),
  );
  for (const row of rows) {
    const cells = row.slice(2, -2).split(' | ');
    t.equal(cells.length, 7, row);
    t.same(
      cells.filter((cell) => cell.length > MAX_CELL),
      [],
      row,
    );
    const [, bench] = /^`([\w-]+)(?= |`)/.exec(cells[5] ?? '') ?? [];
    if (bench !== undefined && !['npm', 'node'].includes(bench)) t.ok(benches.includes(bench), bench);
  }
});

t.test('links that name a heading lead to one', async (t) => {
  const pages = globSync(['*.md', '{docs,*,shared/*}/**/*.md'], {
    cwd: ROOT,
    exclude: (name) => name.includes('node_modules'),
  });
  const wrong: string[] = [];
  let seen = 0;
  for (const page of new Set(pages))
    for (const [, path, heading = ''] of readPage(page).matchAll(/\]\((?![a-z]+:)([^)#\s]*)#([^)\s]+)\)/g)) {
      const other = path === '' ? join(ROOT, page) : resolve(ROOT, dirname(page), path!);
      if (!existsSync(other) || !other.endsWith('.md')) continue;
      seen += 1;
      if (!anchors(readFileSync(other, 'utf8')).has(heading)) wrong.push(`${page}: ${path}#${heading}`);
    }
  t.ok(seen > 20, 'there are such links');
  t.same(wrong, []);
});

function readPage(page: string): string {
  return readFileSync(join(ROOT, page), 'utf8');
}

/** What the headings of a page are linked by: small letters, digits, dashes for spaces, all else left out. */
function anchors(text: string): Set<string> {
  const prose = text.replaceAll(/^```[\s\S]*?^```/gm, '');
  return new Set(
    [...prose.matchAll(/^#+ (.+)$/gm)].map(([, heading = '']) =>
      heading
        .toLowerCase()
        .replaceAll(/[^\p{L}\p{N}\- ]/gu, '')
        .replaceAll(' ', '-'),
    ),
  );
}
