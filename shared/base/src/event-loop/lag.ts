import { createHistogram, performance } from 'node:perf_hooks';
import { Gauge, type Registry } from 'prom-client';

/** How often it is looked, in ms: an idle process wakes four times a second for it, where the library's way wakes it 100 times. */
const LOOK_MS = 250;

const lateNs = createHistogram();
let isLooking = false;

/** What is told of the time that an event waits for this process, by the name that prom-client gives it, in ns. */
const FIGURES = {
  min: () => lateNs.min,
  max: () => lateNs.max,
  mean: () => lateNs.mean,
  stddev: () => lateNs.stddev,
  p50: () => lateNs.percentile(50),
  p90: () => lateNs.percentile(90),
  p99: () => lateNs.percentile(99),
};

/**
 * Shows how late this process comes to what is due, `nodejs_eventloop_lag_{min,max,mean,stddev,p50,p90,p99}_seconds`, since
 * the last scrape. They take the place of prom-client's gauges of these names, which count their own interval of 10 ms as
 * delay. Keeps no process alive.
 */
export function showLoopLag(registry: Registry): void {
  if (!isLooking) startLooking();
  for (const [figure, read] of Object.entries(FIGURES)) {
    const name = `nodejs_eventloop_lag_${figure}_seconds`;
    registry.removeSingleMetric(name);
    new Gauge({
      name,
      help: `How late the event loop came to a timer that was due, in seconds: ${figure} since the last scrape.`,
      registers: [registry],
      collect() {
        this.set(lateNs.count === 0 ? 0 : read() / 1e9);
        // All are read in one go, this one last.
        if (figure === 'p99') lateNs.reset();
      },
    });
  }
}

function startLooking(): void {
  isLooking = true;
  let dueMs = performance.now() + LOOK_MS;
  setInterval(() => {
    const nowMs = performance.now();
    lateNs.record(Math.max(1, Math.round((nowMs - dueMs) * 1e6)));
    dueMs = nowMs + LOOK_MS;
  }, LOOK_MS).unref();
}
