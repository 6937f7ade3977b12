import { createHistogram, performance } from 'node:perf_hooks';
import { Gauge, type Registry } from 'prom-client';

/** How often a process that works is looked at, in ms; the library's way wakes it 100 times a second. */
const LOOK_MS = 250;
/** Longest rest before the next look while it does nothing: each look wakes it. */
const IDLE_LOOK_MS = 4_000;
/** Share of the time since the last look from which on a process works: an idle member is far below. */
const BUSY_SHARE = 0.05;

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
 * delay. A process that does nothing is looked at ever more seldom, down to once in {@link IDLE_LOOK_MS}; a look counts for
 * the time since the one before. Keeps no process alive.
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

/** How long to rest before the next look: twice as long as before while the process works so small a share of its time. */
export function restMs(lastMs: number, busyShare: number): number {
  return busyShare >= BUSY_SHARE ? LOOK_MS : Math.min(lastMs * 2, IDLE_LOOK_MS);
}

function startLooking(): void {
  isLooking = true;
  let last = performance.eventLoopUtilization();
  const lookIn = (ms: number): void => {
    const dueMs = performance.now() + ms;
    const look = (): void => {
      const lateBy = Math.max(1, Math.round((performance.now() - dueMs) * 1e6));
      for (let shown = 0; shown < ms; shown += LOOK_MS) lateNs.record(lateBy);
      const now = performance.eventLoopUtilization();
      const { utilization } = performance.eventLoopUtilization(now, last);
      last = now;
      lookIn(restMs(ms, utilization));
    };
    setTimeout(look, ms).unref();
  };
  lookIn(LOOK_MS);
}
