// Which test an error belongs to that nobody caught. Tap's own answer watches every promise of the process from its birth to its
// collection, a tenth of what a cluster in a test takes; Node knows it from the context that it hands on anyway.
import { AsyncLocalStorage, AsyncResource, executionAsyncResource } from 'node:async_hooks';

const here = new AsyncLocalStorage();
/** The first that was made: the file's, for errors without a context. */
let outermost;

process.on('uncaughtExceptionMonitor', (error, origin) => {
  // Who listens judges for itself, as `@sepia/test-support/fail-on-rejection` does.
  if (process.listenerCount('uncaughtException') > 0 || process.hasUncaughtExceptionCaptureCallback()) return;
  const domain = livingOf(here.getStore()) ?? livingOf(outermost);
  if (domain === undefined) return;
  process.setUncaughtExceptionCaptureCallback(() => process.setUncaughtExceptionCaptureCallback(null));
  domain.onerror(error, origin);
});

/** What tap makes for each test, in the scope of a resource of the test's own; the name is tap's. */
export class Domain {
  constructor(onerror) {
    this.onerror = onerror;
    this.destroyed = false;
    this.parent = here.getStore();
    outermost ??= this;
    const resource = executionAsyncResource();
    if (!(resource instanceof AsyncResource)) return;
    const run = resource.runInAsyncScope;
    resource.runInAsyncScope = (work, self, ...args) =>
      run.call(resource, () => here.run(this, () => work.apply(self, args)));
  }

  /** Its errors belong to the test around it from now on. */
  destroy() {
    this.destroyed = true;
  }
}

function livingOf(domain) {
  let found = domain;
  while (found?.destroyed === true) found = found.parent;
  return found;
}
