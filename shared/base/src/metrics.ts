import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { NEVER_MS, showLoopLag } from './event-loop/lag.ts';
import { bugsSeen } from './failure.ts';
import { logLinesLost } from './log-sink.ts';

export { Counter, Gauge, Histogram, Registry } from 'prom-client';

/** A service's metrics: Node's own, HTTP requests, and what the service adds. One per service instance. */
export class Metrics {
  readonly registry = new Registry();
  readonly #requests: Histogram;

  constructor(service: string, member: string) {
    this.registry.setDefaultLabels({ service, member });
    collectDefaultMetrics({ register: this.registry, eventLoopMonitoringPrecision: NEVER_MS });
    showLoopLag(this.registry);
    new Counter({
      name: 'sepia_bugs_total',
      help: 'Failures of this process that only wrong code can cause; each is in the log with "bug": true. Aim: 0.',
      registers: [this.registry],
      collect() {
        this.reset();
        this.inc(bugsSeen());
      },
    });
    new Counter({
      name: 'sepia_log_lines_lost_total',
      help: 'Log lines of this process that could not be written: no room on the disk, or nobody reads. Aim: 0.',
      registers: [this.registry],
      collect() {
        this.reset();
        this.inc(logLinesLost());
      },
    });
    this.#requests = new Histogram({
      name: `sepia_${service}_http_request_seconds`,
      help: 'Time to answer a request, by route and status.',
      labelNames: ['method', 'route', 'status'],
      buckets: [0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 60],
      registers: [this.registry],
    });
  }

  /** For {@link createApp}'s `onRequest`. */
  readonly onRequest = (facts: { method: string; route: string; status: number; seconds: number }): void => {
    this.#requests.observe(
      { method: facts.method, route: facts.route, status: String(facts.status) },
      facts.seconds,
    );
  };

  counter<L extends string>(name: string, help: string, labelNames: readonly L[] = []): Counter<L> {
    return new Counter<L>({ name, help, labelNames: [...labelNames], registers: [this.registry] });
  }

  gauge(name: string, help: string, collect: () => number): Gauge {
    return new Gauge({
      name,
      help,
      registers: [this.registry],
      collect() {
        this.set(collect());
      },
    });
  }
}
