// Runs the test files that it is given in one process, one after the other, each as a test of its own, named after the file: what
// Node and tap take to start is paid once. For what is pure alone: nothing that one leaves behind can change the next.
import { registerHooks } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import t from 'tap';

const files = new Map(process.argv.slice(2).map((file) => [pathToFileURL(file).href, file]));
/** The test of each file: what it imports as `tap`. */
const tests = new Map();
const OURS = 'sepia-test:';
globalThis[Symbol.for(OURS)] = tests;

registerHooks({
  resolve: (name, context, next) =>
    name === 'tap' && files.has(context.parentURL)
      ? { url: OURS + context.parentURL, format: 'module', shortCircuit: true }
      : next(name, context),
  load: (url, context, next) => {
    if (!url.startsWith(OURS)) return next(url, context);
    const source = `export default globalThis[Symbol.for('${OURS}')].get(${JSON.stringify(url.slice(OURS.length))})`;
    return { source, format: 'module', shortCircuit: true };
  },
});

for (const [url, file] of files)
  await t.test(file, async (test) => {
    tests.set(url, test);
    test.testdirName = join(dirname(t.testdirName), file.replaceAll('/', '-'));
    await import(url);
  });
