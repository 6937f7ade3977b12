// Runs tap and says at the end how many assertions held. Plain JS: it must run under Node 20.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ROOT } from './node24.mjs';

/** What `npm test` runs: neither root nor foreign programs are needed. */
export const FAST_PLACES = [
  ...workspaces().map((name) => `${name}/test`),
  'test/inprocess',
  'test/torture',
  'test/layering.test.ts',
  'test/failures.test.ts',
  'test/one-of-each.test.ts',
];

/** Files below the places (folders or files, relative to the root) whose names match, sorted. */
export function testFiles(places, pattern = /\.test\.ts$/) {
  const found = [];
  for (const place of places) {
    const path = join(ROOT, place);
    if (!existsSync(path)) continue;
    if (statSync(path).isFile()) found.push(place);
    else walk(path, pattern, found);
  }
  return [...new Set(found)].sort();
}

/**
 * Runs the tests of `places`, or those that `args` names (files or folders); other `args` go to tap. `run` starts Node.
 * @returns {Promise<number>} tap's exit code; not 0 when no test was there
 */
export async function runTap(places, args, run, options = {}) {
  const named = args.filter((arg) => !arg.startsWith('-') && existsSync(join(ROOT, arg)));
  const flags = args.filter((arg) => !named.includes(arg));
  const isLeftOut = (file) =>
    named.length === 0 && options.except !== undefined && file.startsWith(options.except);
  const files = testFiles(named.length > 0 ? named : places).filter((file) => !isLeftOut(file));
  if (files.length === 0) {
    process.stderr.write(`sepia: no test found in ${places.join(', ')}\n`);
    return 1;
  }
  const { Parser } = await import(
    pathToFileURL(join(ROOT, 'node_modules/tap-parser/dist/esm/index.js')).href
  );
  const totals = { passed: 0, failed: 0, skipped: 0 };
  const parser = new Parser();
  follow(parser, totals, []);
  const startedMs = Date.now();
  const tap = join(ROOT, 'node_modules', 'tap', 'dist', 'esm', 'run.mjs');
  const code = await run([tap, 'run', '--reporter=tap', ...flags, ...files], {
    env: options.env ?? {},
    stdio: ['inherit', 'pipe', 'inherit'],
    onStart: (child) => child.stdout.pipe(parser),
  });
  const lost = options.demandAll === true ? totals.skipped : 0;
  const failed = (totals.failed === 0 && code !== 0 ? 1 : totals.failed) + lost;
  const seconds = ((Date.now() - startedMs) / 1000).toFixed(1);
  process.stdout.write(
    `\n${files.length} files in ${seconds} s${totals.skipped === 0 ? '' : `, ${totals.skipped} skipped`}\n`,
  );
  process.stdout.write(`${totals.passed} passed, ${failed} failed\n`);
  if (options.demandAll === true && totals.skipped > 0) {
    process.stderr.write(
      'sepia: a test was skipped where none may be; see "skipped" above for what is missing\n',
    );
    return 1;
  }
  return code === 0 && failed > 0 ? 1 : code;
}

/** Counts assertions and prints a line per file: an assertion that closes a subtest counts only if it alone failed. */
function follow(parser, totals, path) {
  let child;
  let inside = 0;
  parser.on('child', (sub) => {
    child = sub;
    inside = totals.passed + totals.failed + totals.skipped;
    follow(sub, totals, [...path, sub.name]);
  });
  parser.on('assert', (assertion) => {
    const closes = child;
    child = undefined;
    const isFile = path.length === 0;
    const isLeaf = closes === undefined || (!assertion.ok && closes.ok);
    if (isLeaf && !(isFile && assertion.ok)) tally(assertion, totals, path);
    if (!isFile) return;
    const assertions = totals.passed + totals.failed + totals.skipped - inside;
    const ms =
      assertion.time === undefined || assertion.time === null
        ? ''
        : `, ${(assertion.time / 1000).toFixed(1)} s`;
    process.stdout.write(`${assertion.ok ? 'ok    ' : 'FAILED'} ${assertion.name} (${assertions}${ms})\n`);
  });
}

function tally(assertion, totals, path) {
  if (assertion.skip) {
    totals.skipped += 1;
    const reason = typeof assertion.skip === 'string' ? `: ${assertion.skip}` : '';
    process.stdout.write(`  skipped ${[...path, assertion.name].join(' > ')}${reason}\n`);
  } else if (assertion.ok || assertion.todo) {
    totals.passed += 1;
  } else {
    totals.failed += 1;
    const { source: _source, ...diag } = assertion.diag ?? {};
    const facts = JSON.stringify(diag, null, 2).replaceAll('\\n', '\n').replaceAll('\n', '\n    ');
    process.stdout.write(`  not ok ${[...path, assertion.name].join(' > ')}\n    ${facts}\n`);
  }
}

function walk(folder, pattern, found) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.name === 'node_modules' || entry.name === 'fixtures' || entry.name.startsWith('.')) continue;
    const path = join(folder, entry.name);
    if (entry.isDirectory()) walk(path, pattern, found);
    else if (pattern.test(entry.name)) found.push(relative(ROOT, path));
  }
}

/** The folders of all workspaces; `shared/*` stands for each that has a package.json. */
function workspaces() {
  const { workspaces } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  return workspaces.flatMap((one) =>
    one.endsWith('/*')
      ? readdirSync(join(ROOT, one.slice(0, -2)))
          .map((name) => one.slice(0, -1) + name)
          .filter((folder) => existsSync(join(ROOT, folder, 'package.json')))
      : [one],
  );
}
