// What `npm run coverage` does: runs the tests of what is pure, and says what of it none of them reaches. Plain JS: it must run under Node 20.
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ROOT } from './node24.mjs';
import { PURE_PACKAGES, runTap, testFiles, workspaces } from './tap.mjs';

/** Imports every file that is judged: one that no test loads is unreached, not unknown. */
const LOAD = 'for (const file of process.argv.slice(1)) await import(file)';
/** The ends of blocks, and comments: no code. */
const NO_CODE = /\/\/.*|\/\*[\s\S]*?\*\/|[\s;{}]+/g;

/**
 * Runs the tests of cores and pure packages of all workspaces, or of those in `args`; other flags are those of {@link runTap}.
 * `run` starts Node.
 * @returns {Promise<number>} 0 where all tests held and every place was reached
 */
export async function runCoverage(args, run) {
  const named = args.filter((arg) => !arg.startsWith('-') && existsSync(join(ROOT, arg)));
  const homes = named.length > 0 ? named : workspaces();
  const judged = testFiles(homes, /\.ts$/).filter(isJudged);
  if (judged.length === 0) {
    process.stdout.write(`no core is in ${homes.join(', ')}: nothing to reach\n`);
    return 0;
  }
  const folder = mkdtempSync(join(tmpdir(), 'sepia-coverage-'));
  // Of functions that Node had compiled before V8 tells less.
  const env = { NODE_V8_COVERAGE: folder, NODE_DISABLE_COMPILE_CACHE: '1' };
  try {
    const paths = judged.map((file) => join(ROOT, file));
    const loaded = await run(['--input-type=module', '--eval', LOAD, ...paths], { env });
    if (loaded !== 0) return loaded;
    const flags = args.filter((arg) => !named.includes(arg));
    const code = await runTap(testFiles(homes).filter(isTest), flags, run, { env });
    if (code !== 0) return code;
    return report(judged, reachedBy(folder, new Set(judged)));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function isJudged(file) {
  return (
    /(^|\/)src\/(.+\/)?core\//.test(file) || PURE_PACKAGES.some((home) => file.startsWith(`${home}/src/`))
  );
}

function isTest(file) {
  if (file.includes('/test/model/')) return false;
  if (PURE_PACKAGES.some((home) => file.startsWith(`${home}/test/`))) return true;
  if (/\/test\/(.+\/)?core\//.test(file)) return true;
  const text = readFileSync(join(ROOT, file), 'utf8');
  // Elsewhere, what works on disks and sockets tests a shell.
  return /from '\.\.\/[^']*\/core\//.test(text) && !/\btestdir\(|\/support\/|from 'node:fs/.test(text);
}

/**
 * Each character of the judged files that some process reached, from what V8 wrote into `folder`. Node's own sum over
 * processes misses functions of one line, and blocks that another process did not compile.
 */
function reachedBy(folder, judged) {
  const reached = new Map();
  for (const name of readdirSync(folder)) {
    for (const { url, functions } of JSON.parse(readFileSync(join(folder, name), 'utf8')).result) {
      const file = url.startsWith('file://') ? relative(ROOT, fileURLToPath(url)) : '';
      if (!judged.has(file)) continue;
      const all = reached.get(file) ?? new Uint8Array(readFileSync(join(ROOT, file), 'utf8').length);
      const here = new Uint8Array(all.length);
      // Functions and blocks come after what they lie in.
      for (const { ranges } of functions)
        for (const { startOffset, endOffset, count } of ranges)
          here.fill(Math.min(1, count), startOffset, endOffset);
      for (let at = 0; at < all.length; at++) all[at] |= here[at];
      reached.set(file, all);
    }
  }
  return reached;
}

/** Says what is not reached, and how many files are whole. */
function report(judged, reached) {
  let [whole, lacking] = [0, 0];
  for (const file of judged) {
    const text = readFileSync(join(ROOT, file), 'utf8');
    const places = [...unreached(text, reached.get(file))];
    if (places.length === 0) whole += 1;
    lacking += places.length;
    for (const { line, code } of places) process.stdout.write(`not reached ${file}:${line}  ${code}\n`);
  }
  const open = judged.length - whole;
  process.stdout.write(`\n${whole} of ${judged.length} files reached whole; ${lacking} places not reached\n`);
  process.stdout.write(`${whole} passed, ${open} failed\n`);
  return open === 0 ? 0 : 1;
}

/** Where code is that was not reached: line, and how it begins. */
function* unreached(text, reached = new Uint8Array(text.length)) {
  for (let at = reached.indexOf(0); at !== -1; ) {
    const next = reached.indexOf(1, at);
    const end = next === -1 ? text.length : next;
    const code = text.slice(at, end);
    if (code.replace(NO_CODE, '') !== '') {
      const line = text.slice(0, at + code.search(/\S/)).split('\n').length;
      yield { line, code: code.trim().replace(/\s+/g, ' ').slice(0, 90) };
    }
    at = next === -1 ? -1 : reached.indexOf(0, next);
  }
}
