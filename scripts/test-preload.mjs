// Preloaded into each test file: what spares every one of them a part of its start. Loads tap, with our way to find the test that
// an error belongs to.
import { registerHooks } from 'node:module';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { isMainThread } from 'node:worker_threads';
import { ROOT } from './node24.mjs';

const domains = new URL('./error-domain.mjs', import.meta.url).href;
const root = pathToFileURL(`${ROOT}/`).href;
/** The modules of our packages, by the name that they are imported by. */
const packages = new Map();

// Not into a thread or a process that a test starts, which may get our flags from it.
if (isMainThread && /(?:\.test\.ts|\/test-batch\.mjs)$/.test(process.argv[1] ?? '')) {
  // Node's copy of undici would be loaded for them by whoever imports `node:http`; nobody here asks for them there.
  const http = process.getBuiltinModule('node:http');
  for (const name of ['WebSocket', 'CloseEvent', 'MessageEvent']) delete http[name];
  registerHooks({ resolve });
  const { default: tap } = await import('tap');
  const folder = process.env['SEPIA_TEST_FOLDER'];
  if (folder !== undefined) tap.testdirName = join(folder, basename(tap.testdirName));
}

/**
 * Where a module is. Of what is imported all over the workspaces this knows without asking the disk, which is a quarter of the
 * time that the modules of a cluster take to load.
 */
function resolve(name, context, next) {
  if (name === 'async-hook-domain') return { url: domains, shortCircuit: true };
  if (!context.conditions.includes('import') || !isOurs(context.parentURL)) return next(name, context);
  if (/^\.\.?\/.*\.ts$/.test(name))
    return { url: new URL(name, context.parentURL).href, format: 'module-typescript', shortCircuit: true };
  if (!name.startsWith('@sepia/')) return next(name, context);
  const known = packages.get(name);
  if (known !== undefined) return known;
  const { url, format } = next(name, context);
  const found = { url, format, shortCircuit: true };
  packages.set(name, found);
  return found;
}

/** A file of a workspace, not one of a package or one that a test wrote. */
function isOurs(url) {
  return url?.startsWith(root) === true && !/\/(?:node_modules|\.tap)\//.test(url);
}
