// Preloaded into each test file: what spares every one of them a part of its start. Loads tap, with our way to find the test that
// an error belongs to.
import { registerHooks } from 'node:module';
import { isMainThread } from 'node:worker_threads';

// Not into a thread or a process that a test starts, which may get our flags from it.
if (isMainThread && /(?:\.test\.ts|\/test-batch\.mjs)$/.test(process.argv[1] ?? '')) {
  // Node's copy of undici would be loaded for them by whoever imports `node:http`; nobody here asks for them there.
  const http = process.getBuiltinModule('node:http');
  for (const name of ['WebSocket', 'CloseEvent', 'MessageEvent']) delete http[name];
  const ours = new URL('./error-domain.mjs', import.meta.url).href;
  const hooks = registerHooks({
    resolve: (name, context, next) =>
      name === 'async-hook-domain' ? { url: ours, shortCircuit: true } : next(name, context),
  });
  await import('tap');
  hooks.deregister();
}
