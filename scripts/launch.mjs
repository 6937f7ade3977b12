// What the npm scripts call: installs what is missing, then runs the task under Node 24. Plain JS: it must run under Node 20.
import { existsSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { runChild } from './child.mjs';
import { runCoverage } from './coverage.mjs';
import { ensureInstalled } from './install.mjs';
import { findNode, noNodeText, ROOT } from './node24.mjs';
import { FAST_PLACES, runTap, testFiles } from './tap.mjs';
import { closeTestbed, openTestbed, removeDeadTestbeds } from './testbed-folder.mjs';

/** What Node compiled, kept for the next process, as `sepia` does: a test that starts a whole cluster needs half the time to load. */
const COMPILED = join(ROOT, 'node_modules', '.cache', 'sepia');

/** Seeded faults in front of every way of a body: 2,500 runs each. */
const FAULTS = [
  'proxy/test/bodies/faults.test.ts',
  'proxy/test/registry/faults.test.ts',
  ...['faults', 'node-faults', 'relay-faults'].map((name) => `test/inprocess/body-ends/${name}.test.ts`),
];

/** Start a PostgreSQL where it is installed; `npm test` leaves them out by name. */
const POSTGRES = ['shared/records/test/table/postgres-table.test.ts'];
/** Start an S3 server where it is built; as those. */
const S3 = ['shared/backend/test/s3/s3-backend.test.ts'];

const TASKS = {
  start: { level: 'prod', run: (args) => node(['./sepia', 'demo', ...args], { cwd: ROOT }) },
  test: { level: 'all', run: (args) => runTap(FAST_PLACES, args, node) },
  'test:processes': {
    level: 'all',
    run: (args) =>
      runTap(['test/processes', ...POSTGRES, ...S3], ['--timeout=900', ...args], node, {
        jobs: 2,
        except: 'test/processes/clients',
        env: { SEPIA_PROCESSES: '1' },
      }),
  },
  'test:conformance': {
    level: 'all',
    run: (args) =>
      runTap(['test/conformance'], ['--jobs=1', '--timeout=900', ...args], node, { demandAll: true }),
  },
  'test:clients': { level: 'all', run: clients },
  model: {
    level: 'all',
    run: (args) =>
      runTap(['shared/records/test/model'], ['--timeout=3600', ...args], node, {
        env: { MODEL_RUNS: '2000', MODEL_STATES: '3000000' },
      }),
  },
  faults: {
    level: 'all',
    run: (args) => runTap(FAULTS, ['--timeout=7200', ...args], node, { env: { SEPIA_FAULT_RUNS: '2500' } }),
  },
  'lazy-rounds': { level: 'all', run: (args) => node(['test/processes/lazy-rounds.ts', ...args]) },
  'gc-rounds': { level: 'all', run: (args) => node(['test/torture/collect/main.ts', ...args]) },
  torture: { level: 'all', run: (args) => node(['test/torture/main.ts', ...args]) },
  coverage: { level: 'all', run: (args) => runCoverage(args, node) },
  check: { level: 'all', run: check },
  fix: { level: 'all', run: () => node([bin('@biomejs/biome', 'bin/biome'), 'check', '--write', '.']) },
  bench: { level: 'all', run: bench },
};

const [name = '', ...args] = process.argv.slice(2);
process.exitCode = await main();

async function main() {
  const task = TASKS[name];
  if (task === undefined)
    return refuse(`unknown task "${name}"; there are: ${Object.keys(TASKS).join(', ')}`);
  const installed = await ensureInstalled(task.level);
  if (installed !== 0) return installed;
  if (findNode() === undefined) return refuse(noNodeText());
  return await task.run(args[0] === '--' ? args.slice(1) : args);
}

/** Runs Node 24, which is also first in PATH for whatever it starts. */
async function node(nodeArgs, options = {}) {
  const path = findNode();
  const env = {
    ...process.env,
    ...options.env,
    PATH: `${dirname(path)}${delimiter}${process.env['PATH'] ?? ''}`,
    NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'] ?? COMPILED,
    UV_THREADPOOL_SIZE: process.env['UV_THREADPOOL_SIZE'] ?? '16',
  };
  const followParent = process.env['npm_lifecycle_event'] !== undefined;
  return await runChild(path, nodeArgs, { cwd: ROOT, followParent, ...options, env });
}

async function clients(given) {
  if (process.getuid?.() !== 0)
    return refuse('test:clients starts containerd and dockerd and needs root; run it with sudo');
  const testbed = process.env['SEPIA_TESTBED'] ?? join(ROOT, '..', 'shared', 'testbed');
  if (!existsSync(join(testbed, 'install.sh')))
    return refuse(`no testbed at ${testbed}; set SEPIA_TESTBED to the folder that holds install.sh`);
  const told = ({ dir, pids, why = `these processes still need it: ${pids.join(', ')}` }) =>
    process.stderr.write(`sepia: ${dir} stays: ${why}\n`);
  removeDeadTestbeds().held.forEach(told);
  const own = openTestbed();
  // Packages that images are made of are downloaded once, not by every run.
  const cache = process.env['CACHE'] ?? `/tmp/testbed.${process.getuid()}/cache`;
  try {
    // One file at a time: the clients share the machine's network and are timed.
    return await runTap(['test/processes/clients'], ['--jobs=1', '--timeout=1200', ...given], node, {
      env: { SEPIA_TESTBED: testbed, TESTBED_DIR: own, CACHE: cache },
      demandAll: process.env['CI'] === 'true',
    });
  } finally {
    const left = closeTestbed(own);
    if (left !== undefined) told(left);
  }
}

async function check() {
  const steps = [
    ['types', [bin('typescript', 'bin/tsc'), '--noEmit']],
    ['lint and format', [bin('@biomejs/biome', 'bin/biome'), 'check', '--error-on-warnings', '.']],
    ['layering', ['test/layering.test.ts']],
    ['failures', ['test/failures.test.ts']],
    ['one of each', ['test/one-of-each.test.ts']],
    ['pages', ['test/pages.test.ts']],
    ['dead code', [bin('knip', 'bin/knip.js'), '--no-progress']],
  ];
  const lines = [];
  let failed = 0;
  for (const [title, stepArgs] of steps) {
    const startedMs = Date.now();
    const code = await node(stepArgs);
    if (code !== 0) failed += 1;
    lines.push(
      `${code === 0 ? 'ok    ' : 'FAILED'} ${title} (${((Date.now() - startedMs) / 1000).toFixed(1)} s)`,
    );
    if (code > 128) return code;
  }
  process.stdout.write(`\n${lines.join('\n')}\n${steps.length - failed} passed, ${failed} failed\n`);
  return failed === 0 ? 0 : 1;
}

async function bench(given) {
  const entry = ['bench/src/main.ts', 'bench/main.ts'].find((file) => existsSync(join(ROOT, file)));
  if (entry !== undefined) return await node([entry, ...given]);
  const [first] = given;
  const file = ['bench/src', 'bench']
    .map((folder) => `${folder}/${first}.ts`)
    .find((one) => existsSync(join(ROOT, one)));
  if (first !== undefined && file !== undefined) return await node([file, ...given.slice(1)]);
  const known = testFiles(['bench'], /\.ts$/).map((one) => one.replace(/^bench\/(?:src\/)?|\.ts$/g, ''));
  return refuse(`usage: npm run bench -- NAME; there are: ${known.join(', ') || 'none'}`);
}

function bin(pkg, path) {
  return join(ROOT, 'node_modules', pkg, path);
}

function refuse(text) {
  process.stderr.write(`sepia: ${text}\n`);
  return 2;
}
