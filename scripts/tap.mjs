// Runs tests, each file in a process of its own, and says at the end how many assertions held. Plain JS: it must run under Node 20.
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ROOT } from './node24.mjs';

/** What `npm test` runs: neither root nor foreign programs are needed. */
export const FAST_PLACES = [
  ...workspaces().map((name) => `${name}/test`),
  'test/inprocess',
  'test/torture',
  ...readdirSync(join(ROOT, 'test'))
    .filter((name) => name.endsWith('.test.ts'))
    .map((name) => `test/${name}`),
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
 * Files that run at once where `--jobs` does not say: most wait now and then, so that one more than there are cores; at most
 * as many as have ports of their own.
 */
const JOBS = Math.min(4, availableParallelism() + 1);
/** Seconds that a file may take where `--timeout` does not say. */
const TIMEOUT_S = 900;
/** What Node loads before each file. */
const PRELOAD = new URL('./test-preload.mjs', import.meta.url).href;
/** A file that is out of time says so and tears down what it started; after so long in ms it is ended, then killed. */
const DYING_MS = 10_000;

/**
 * Runs the tests of `places`, or those that `args` names (files or folders), each in a process of its own: `--jobs=N` of
 * them at once, each for at most `--timeout=SECONDS`; other flags go to the files. `run` starts Node. Not by `tap run`: its
 * loaders cost every file, and every process that a file starts, half a second of a core.
 * @returns {Promise<number>} 0 where all held and at least one test was there
 */
export async function runTap(places, args, run, options = {}) {
  const named = args.filter((arg) => !arg.startsWith('-') && existsSync(join(ROOT, arg)));
  const { jobs, timeoutS, others, wrong } = flagsOf(args.filter((arg) => !named.includes(arg)));
  if (wrong !== undefined) {
    process.stderr.write(`sepia: ${wrong}\n`);
    return 2;
  }
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
  const startedMs = Date.now();
  const queue = [...files];
  let signal = 0;
  const work = async (_none, job) => {
    // Those that run at once take ports of their own by this (`@sepia/test-support/free-ports`).
    const env = { ...options.env, TAP_TIMEOUT: String(timeoutS), TAP_JOB_ID: String(job) };
    for (let file = queue.shift(); file !== undefined && signal === 0; file = queue.shift()) {
      const { sum, text, code, isLate } = await runFile({ file, others, timeoutS, env, Parser }, run);
      for (const key of Object.keys(totals)) totals[key] += sum[key];
      process.stdout.write(text);
      // Ended from outside, as all are to end then.
      if (!isLate && (code === 130 || code === 143)) signal = code;
    }
  };
  await Promise.all(Array.from({ length: Math.min(jobs, files.length) }, work));
  if (signal !== 0) return signal;
  const lost = options.demandAll === true ? totals.skipped : 0;
  const failed = totals.failed + lost;
  const seconds = ((Date.now() - startedMs) / 1000).toFixed(1);
  process.stdout.write(
    `\n${files.length} files in ${seconds} s${totals.skipped === 0 ? '' : `, ${totals.skipped} skipped`}\n`,
  );
  process.stdout.write(`${totals.passed} passed, ${failed} failed\n`);
  if (lost > 0)
    process.stderr.write(
      'sepia: a test was skipped where none may be; see "skipped" above for what is missing\n',
    );
  return failed > 0 ? 1 : 0;
}

/** What the flags ask for. */
function flagsOf(flags) {
  const found = { jobs: JOBS, timeoutS: TIMEOUT_S, others: [], wrong: undefined };
  for (const flag of flags) {
    const [, name, text] = /^--(jobs|timeout)=(.*)$/.exec(flag) ?? [];
    if (name === undefined) found.others.push(flag);
    else if (!/^[1-9]\d{0,5}$/.test(text)) found.wrong = `--${name} ${text} is not a whole number above 0`;
    else if (name === 'jobs') found.jobs = Number(text);
    else found.timeoutS = Number(text);
  }
  return found;
}

/** Runs one file. @returns its sums, and the text of its failures and its line */
async function runFile({ file, others, timeoutS, env, Parser }, run) {
  const startedMs = Date.now();
  const sum = { passed: 0, failed: 0, skipped: 0 };
  const parser = new Parser();
  const lines = [];
  follow(parser, sum, [file], lines);
  const parsed = new Promise((resolve) => parser.on('complete', resolve));
  let isLate = false;
  let timers = [];
  const code = await run(['--import', PRELOAD, file, ...others], {
    env,
    stdio: ['inherit', 'pipe', 'inherit'],
    onStart: (child) => {
      child.stdout.pipe(parser);
      const end = (signal) => {
        isLate = true;
        child.kill(signal);
      };
      timers = [
        setTimeout(end, timeoutS * 1_000 + DYING_MS, 'SIGTERM'),
        setTimeout(end, timeoutS * 1_000 + 2 * DYING_MS, 'SIGKILL'),
      ];
    },
  });
  for (const timer of timers) clearTimeout(timer);
  parser.end();
  const { ok } = await parsed;
  const assertions = sum.passed + sum.failed + sum.skipped;
  const isGood = ok && code === 0 && assertions > 0;
  // No assertion failed: the process did, or said nothing.
  if (!isGood && sum.failed === 0) {
    sum.failed = 1;
    const why = isLate
      ? `not over within ${timeoutS} s`
      : assertions === 0
        ? 'no assertion'
        : 'its process failed';
    lines.push(`  not ok ${file} > ${why} (exit code ${code})\n`);
  }
  const seconds = ((Date.now() - startedMs) / 1000).toFixed(1);
  lines.push(`${isGood ? 'ok    ' : 'FAILED'} ${file} (${assertions}, ${seconds} s)\n`);
  return { sum, text: lines.join(''), code, isLate };
}

/** Counts assertions, and notes what failed or was skipped: an assertion that closes a subtest counts only if it alone failed. */
function follow(parser, totals, path, lines) {
  let child;
  parser.on('child', (sub) => {
    child = sub;
    follow(sub, totals, [...path, sub.name], lines);
  });
  parser.on('assert', (assertion) => {
    const closes = child;
    child = undefined;
    if (closes === undefined || (!assertion.ok && closes.ok)) tally(assertion, totals, path, lines);
  });
}

function tally(assertion, totals, path, lines) {
  if (assertion.skip) {
    totals.skipped += 1;
    const reason = typeof assertion.skip === 'string' ? `: ${assertion.skip}` : '';
    lines.push(`  skipped ${[...path, assertion.name].join(' > ')}${reason}\n`);
  } else if (assertion.ok || assertion.todo) {
    totals.passed += 1;
  } else {
    totals.failed += 1;
    const { source: _source, ...diag } = assertion.diag ?? {};
    const facts = JSON.stringify(diag, null, 2).replaceAll('\\n', '\n').replaceAll('\n', '\n    ');
    lines.push(`  not ok ${[...path, assertion.name].join(' > ')}\n    ${facts}\n`);
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
export function workspaces() {
  const { workspaces } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
  return workspaces.flatMap((one) =>
    one.endsWith('/*')
      ? readdirSync(join(ROOT, one.slice(0, -2)))
          .map((name) => one.slice(0, -1) + name)
          .filter((folder) => existsSync(join(ROOT, folder, 'package.json')))
      : [one],
  );
}
