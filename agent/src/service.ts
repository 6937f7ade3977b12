import { StopStack, startAll } from '@sepia/base/lifecycle';
import type { Lack } from '@sepia/base/reach';
import { startAdmin } from '@sepia/http/admin';
import { budgetOf } from '@sepia/store/core/eviction';
import { checkAgent } from './check.ts';
import type { AgentConfig } from './config.ts';
import { STOP_GRACE_MS } from './deadlines.ts';
import { openLazySide, startFace } from './face.ts';
import { type AgentGiven, layGround, reachOut } from './ground.ts';
import { openHoldings } from './holdings.ts';
import { startLease } from './lease.ts';

/** A running agent. */
export interface Agent {
  readonly id: string;
  /** Registry endpoint of each listener. */
  readonly urls: readonly string[];
  readonly url: string;
  readonly adminUrl: string;
  readonly peers: readonly string[];
  /** The log level and the budget of a new config, at once. */
  adjust(config: AgentConfig): void;
  stop(): Promise<void>;
}

/** Builds and starts an agent. Paths in `config` are absolute. @throws {CodedError} `CONFIG_INVALID`, `START_FAILED`, `DISK_FORMAT` */
export async function startAgent(config: AgentConfig, given: AgentGiven = {}): Promise<Agent> {
  const named = checkAgent(config);
  const stops = new StopStack();
  return await startAll(stops, async () => {
    const ground = await layGround(named, config, given, stops);
    const outside = reachOut(ground, given.env);
    const holdings = await openHoldings(ground, outside);
    const { blobs, scrubber, listening } = holdings;
    const lazySide = openLazySide(ground, outside);
    const lease = startLease(ground, outside, holdings, lazySide.lazy);
    const { reach } = lease;
    const { listeners, apps } = await startFace(ground, outside, holdings, lazySide);
    const { nodeId, log, metrics, clock } = ground;
    let stopping = false;
    const admin = await startAdmin(
      {
        log,
        metrics,
        app: apps[0]!,
        notReady: () => (stopping ? 'stopping' : whyOf(reach.lack(performance.now()), 'refused')),
        clock,
        warnings: () => [
          ...[whyOf(reach.lack(performance.now()), 'silent')].filter((one) => one !== undefined),
          ...lease.warnings(),
          ...scrubber.warnings,
          ...blobs.warnings,
          ...ground.store.warnings,
        ],
        debug: { swarms: () => blobs.figures() },
      },
      config['admin-listen'],
    );
    stops.push('admin', () => admin.stop(STOP_GRACE_MS));
    stops.push('readiness', () => {
      stopping = true;
    });
    scrubber.start();
    log.info({ listen: listeners.map((one) => one.hostPort), peers: listening }, 'agent is ready');
    return {
      id: nodeId,
      urls: listeners.map((one) => one.url),
      url: listeners[0]!.url,
      adminUrl: admin.url,
      peers: listening,
      adjust: (next) => {
        log.level = next.log.level;
        ground.store.adjust(budgetOf(next.cache));
      },
      stop: () => stops.stop(),
    };
  });
}

function whyOf(lack: Lack | undefined, kind: Lack['kind']): string | undefined {
  return lack?.kind === kind ? lack.why : undefined;
}
