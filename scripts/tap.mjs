// Runs tests, each file in a process of its own but for pure ones, and says at the end how many assertions held. Plain JS: it must run under Node 20.
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join, relative } from 'node:path';
import { pathToFileURL } from 'node:url';
import { knowsIdle, untilIdle } from './idle.mjs';
import { ROOT } from './node24.mjs';
import { closeTestbed, openTestbed, removeDeadTestbeds } from './testbed-folder.mjs';

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

/** Files that run at once where `--jobs` does not say: most wait now and then, so that one more than there are cores. */
const JOBS = Math.min(4, availableParallelism() + 1);
/** So many more run while there is CPU to spare: files that only wait hold up nobody. All together have ports of their own. */
const EXTRA_JOBS = 2;
/** Seconds that a file may take where `--timeout` does not say. */
const TIMEOUT_S = 900;
/** What Node loads before each file. */
const PRELOAD = new URL('./test-preload.mjs', import.meta.url).href;
/** Runs several pure files in one process. */
const BATCH = 'scripts/test-batch.mjs';
const BATCH_FILES = 12;
/** What is pure as a whole, as cores are. */
export const PURE_PACKAGES = ['shared/oci', 'shared/metainfo'];
/** A file that is out of time says so and tears down what it started; after so long in ms it is ended, then killed. */
const DYING_MS = 10_000;

/**
 * Runs the tests of `places`, or those that `args` names (files or folders), each in a process of its own, those of what is
 * pure several to a process: `--jobs=N` of them at once (else `options.jobs`, and more while there is CPU to spare), each for at most
 * `--timeout=SECONDS`; other flags go to the files.
 * `run` starts Node. Not by `tap run`: its loaders cost every file, and every process that a file starts, half a second of a core.
 * @returns {Promise<number>} 0 where all held and at least one test was there
 */
export async function runTap(places, args, run, options = {}) {
  const named = args.filter((arg) => !arg.startsWith('-') && existsSync(join(ROOT, arg)));
  const { jobs, extra, timeoutS, others, wrong } = flagsOf(
    args.filter((arg) => !named.includes(arg)),
    options.jobs,
  );
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
  const queue = others.length > 0 ? files.map((file) => [file]) : batchesOf(files);
  let signal = 0;
  const home = folderOfRun();
  const isOver = () => queue.length === 0 || signal !== 0;
  // One after the other, each after what the last one started shows.
  let idle = Promise.resolve();
  const work = async (_none, job) => {
    // Those that run at once take ports of their own by this (`@sepia/test-support/free-ports`).
    const env = { ...options.env, TAP_TIMEOUT: String(timeoutS), TAP_JOB_ID: String(job) };
    // Tap would remove the folders of a test before its teardown stops who writes there, and stop nobody where that fails.
    Object.assign(env, { SEPIA_TEST_FOLDER: join(home, String(job)), TAP_SAVE_FIXTURE: '1' });
    for (;;) {
      if (job >= jobs) {
        idle = idle.then(async () => await untilIdle(isOver));
        await idle;
      }
      if (isOver()) return;
      const batch = queue.shift();
      const { sum, text, code, isLate } = await runFiles({ batch, others, timeoutS, env, Parser }, run);
      for (const key of Object.keys(totals)) totals[key] += sum[key];
      process.stdout.write(text);
      tellLeft(closeTestbed(env.SEPIA_TEST_FOLDER));
      // Ended from outside, as all are to end then.
      if (!isLate && (code === 130 || code === 143)) signal = code;
    }
  };
  await Promise.all(Array.from({ length: Math.min(jobs + extra, queue.length) }, work));
  tellLeft(closeTestbed(home));
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

/** Below it tests make their folders (`./test-preload.mjs`): those of a file go when its process has ended, what then stays with a later run. */
function folderOfRun() {
  const parent = join(ROOT, '.tap');
  mkdirSync(parent, { recursive: true });
  removeDeadTestbeds(parent);
  return openTestbed(parent);
}

/** What the flags ask for; `--jobs` is the whole number. */
function flagsOf(flags, jobs = JOBS) {
  const extra = knowsIdle() ? EXTRA_JOBS : 0;
  const found = { jobs, extra, timeoutS: TIMEOUT_S, others: [], wrong: undefined };
  for (const flag of flags) {
    const [, name, text] = /^--(jobs|timeout)=(.*)$/.exec(flag) ?? [];
    if (name === undefined) found.others.push(flag);
    else if (!/^[1-9]\d{0,5}$/.test(text)) found.wrong = `--${name} ${text} is not a whole number above 0`;
    else if (name === 'jobs') Object.assign(found, { jobs: Number(text), extra: 0 });
    else found.timeoutS = Number(text);
  }
  return found;
}

/** The files by process: what is pure in batches, all else alone. */
function batchesOf(files) {
  const pure = files.filter(isPure);
  const batches = files.filter((file) => !isPure(file)).map((file) => [file]);
  for (let at = 0; at < pure.length; at += BATCH_FILES) batches.push(pure.slice(at, at + BATCH_FILES));
  // Clusters in a process wait much, the tests of the workspaces use the machine: some of each run at any time.
  const isOfClusters = ([file]) => file.startsWith('test/');
  return spread(
    batches.filter(isOfClusters),
    batches.filter((batch) => !isOfClusters(batch)),
  );
}

/** Both lists in their order, each evenly over the whole. */
function spread(...lists) {
  const placed = lists.flatMap((list) => list.map((one, at) => ({ one, place: (at + 0.5) / list.length })));
  return placed.sort((a, b) => a.place - b.place).map(({ one }) => one);
}

function isPure(file) {
  return /\/test\/(.+\/)?core\//.test(file) || PURE_PACKAGES.some((home) => file.startsWith(`${home}/test/`));
}

/** Runs the files of one process. @returns their sums, the text of their failures, and their lines */
async function runFiles({ batch, others, timeoutS, env, Parser }, run) {
  const startedMs = Date.now();
  const parser = new Parser();
  const reports = batch.map((file) => ({ file, sum: { passed: 0, failed: 0, skipped: 0 }, lines: [] }));
  const [first] = reports;
  if (batch.length === 1) follow(parser, first.sum, [first.file], first.lines);
  else followBatch(parser, reports);
  const parsed = new Promise((resolve) => parser.on('complete', resolve));
  let isLate = false;
  let timers = [];
  const args = batch.length === 1 ? [first.file, ...others] : [BATCH, ...batch];
  const code = await run(['--import', PRELOAD, ...args], {
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
  const end = { isWhole: ok && code === 0, isLate, timeoutS, code, startedMs };
  if (batch.length === 1) judge(first, end);
  else {
    for (const report of reports) judge(report, { ...end, isWhole: report.isOver === true });
    // All files held, yet the process did not.
    const failed = reports.some(({ sum }) => sum.failed > 0);
    if (!end.isWhole && !failed) judge(reports.at(-1), end);
  }
  const sum = { passed: 0, failed: 0, skipped: 0 };
  for (const report of reports) for (const key of Object.keys(sum)) sum[key] += report.sum[key];
  return { sum, text: reports.flatMap(({ lines }) => lines).join(''), code, isLate };
}

/** Adds the line of a file to its report, and why it failed where no assertion did: its process did, or said nothing. */
function judge({ file, sum, lines, timeMs }, { isWhole, isLate, timeoutS, code, startedMs }) {
  const assertions = sum.passed + sum.failed + sum.skipped;
  const isGood = isWhole && sum.failed === 0 && assertions > 0;
  if (!isGood && sum.failed === 0) {
    sum.failed = 1;
    const why = isLate
      ? `not over within ${timeoutS} s`
      : assertions === 0
        ? 'no assertion'
        : 'its process failed';
    lines.push(`  not ok ${file} > ${why} (exit code ${code})\n`);
  }
  const seconds = ((timeMs ?? Date.now() - startedMs) / 1000).toFixed(1);
  lines.push(`${isGood ? 'ok    ' : 'FAILED'} ${file} (${assertions}, ${seconds} s)\n`);
}

/** As {@link follow}, of a process of several files: each is a test at the top, and nothing else is. */
function followBatch(parser, reports) {
  let child;
  let report;
  parser.on('child', (sub) => {
    child = sub;
    report = reports.find(({ file }) => file === sub.name) ?? reports[0];
    follow(sub, report.sum, [report.file], report.lines);
  });
  parser.on('assert', (assertion) => {
    const isOf = child !== undefined && report.file === assertion.name;
    const of = isOf ? report : reports[0];
    if (!assertion.ok && !(isOf && child.ok === false)) tally(assertion, of.sum, [of.file], of.lines);
    if (isOf) Object.assign(report, { isOver: true, timeMs: assertion.time });
    child = undefined;
  });
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

/** A folder that stays says which test left something running, or mounted. */
function tellLeft(left) {
  if (left === undefined) return;
  const { dir, pids, why = `processes ${pids.join(', ')} live in it` } = left;
  process.stdout.write(`left behind: ${dir}: ${why}\n`);
}
