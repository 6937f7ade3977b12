import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { MAX_TIMER_MS } from './bounded-ms.ts';
import { connectionsLost } from './connections/lost-connections.ts';
import { showLoopLag } from './event-loop/lag.ts';
import { bugsSeen } from './failure.ts';
import { logLinesLost } from './log-sink.ts';

export { Counter, Gauge, Histogram, Registry } from 'prom-client';

/** How a pass of work ended that a service does over and over. */
export interface PassEnd {
  readonly isFailed: boolean;
  readonly tookMs: number;
}

/** The last pass of each loop of this process, by its name. */
const lastPasses = new Map<string, PassEnd>();

/** Notes how the last pass of a loop of this process ended; its metrics show the last one of each name. */
export function notePass(loop: string, end: PassEnd): void {
  lastPasses.set(loop, end);
}

/** A service's metrics: Node's own, HTTP requests, and what the service adds. One per service instance. */
export class Metrics {
  readonly registry = new Registry();
  readonly #requests: Histogram;

  constructor(service: string, member: string) {
    this.registry.setDefaultLabels({ service, member });
    // The library's own histogram never looks: `showLoopLag` does.
    collectDefaultMetrics({ register: this.registry, eventLoopMonitoringPrecision: MAX_TIMER_MS });
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
    new Counter({
      name: 'sepia_connections_lost_total',
      help: 'Connections that listeners of this process passed over: the system did not hand them over, no descriptor was left, too many requests unanswered.',
      labelNames: ['why'],
      registers: [this.registry],
      collect() {
        this.reset();
        for (const [why, count] of connectionsLost()) this.inc({ why }, count);
      },
    });
    this.#showPasses();
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

  /** How the last pass of each background loop ended. */
  #showPasses(): void {
    const show = (name: string, help: string, figure: (end: PassEnd) => number): void => {
      new Gauge({
        name,
        help,
        labelNames: ['loop'],
        registers: [this.registry],
        collect() {
          for (const [loop, end] of lastPasses) this.set({ loop }, figure(end));
        },
      });
    };
    show(
      'sepia_pass_seconds',
      'Time that the last pass of a background loop took.',
      (end) => end.tookMs / 1e3,
    );
    show(
      'sepia_pass_failed',
      '1 where the last pass of a background loop failed; the log says why.',
      (end) => (end.isFailed ? 1 : 0),
    );
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
