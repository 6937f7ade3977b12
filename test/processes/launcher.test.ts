import { resolve } from 'node:path';
import { type Output, run } from '@sepia/test-support/testbed';
import t from 'tap';

const SEPIA = resolve(import.meta.dirname, '../../sepia');
const TELL =
  "process.stderr.write([process.env.MALLOC_MMAP_THRESHOLD_, ...process.execArgv].join(' ') + '\\n')";

/** What the process under `./sepia` runs with; the launcher itself tells, too. */
async function started(command: string): Promise<Output> {
  const env = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(TELL)}` };
  return await run('env', ['-u', 'UV_THREADPOOL_SIZE', SEPIA, command, '--help'], env);
}

t.test('a conversion keeps its buffers where there is memory; all others give them back', async (t) => {
  const convert = await started('convert');
  t.equal(convert.code, 0, convert.stderr);
  t.match(convert.stderr, /^4194304 --max-semi-space-size=4$/m);
  const origin = await started('origin');
  t.equal(origin.code, 0, origin.stderr);
  t.match(origin.stderr, /^32768 --max-semi-space-size=4 --heap-growing-percent=30$/m);
  const tracker = await started('tracker');
  t.equal(tracker.code, 0, tracker.stderr);
  t.match(tracker.stderr, /^32768 --max-semi-space-size=32$/m, 'small things, no buffers');
});

t.test('counts of the house are taken by the Node that is fit, whichever is asked to', async (t) => {
  const old = "Object.defineProperty(process.versions, 'node', { value: '20.0.0' })";
  const counts = resolve(import.meta.dirname, '../../scripts/house-counts.mjs');
  const asOld = [`--import=data:text/javascript,${encodeURIComponent(old)}`, counts];
  const env = { NODE_OPTIONS: `--import=data:text/javascript,${encodeURIComponent(TELL)}` };
  const counted = await run(process.execPath, asOld, env);
  t.equal(counted.code, 0, counted.stderr);
  t.equal(counted.stderr.match(/\n/g)?.length, 2, 'it ran again, as another process');
  t.same(JSON.parse(counted.stdout).circlesOfRooms, []);
});
