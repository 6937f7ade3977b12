import { join } from 'node:path';
import { throwIfBug } from '@sepia/base/failure';
import type { StopStack } from '@sepia/base/lifecycle';
import { Up, type UpMember } from '@sepia/test-support/up';
import { BenchRegistry } from './registry.ts';

const TRIES = 4;
/** Ports below the kernel's own range, in which `sepia up` finds room for every role. */
const PORTS_FROM = 20_000;
const PORTS_SPAN = 10_000;

/** Members on loopback, one process each, in front of a docker-registry. */
export interface LoopbackCluster {
  readonly registry: BenchRegistry;
  readonly agent: UpMember;
  readonly proxy: UpMember;
  readonly origin: UpMember;
  readonly tracker: UpMember;
  readonly keyFile: string;
}

/** Starts a registry; it ends with `stops`. */
export async function startRegistry(stops: StopStack, dir: string): Promise<BenchRegistry> {
  const registry = await BenchRegistry.start(join(dir, 'registry'));
  stops.push('registry', () => registry.stop());
  return registry;
}

/** One member of each role in front of a registry, by `sepia up`; ends with `stops`. */
export async function startLoopback(
  stops: StopStack,
  dir: string,
  registry: BenchRegistry,
): Promise<LoopbackCluster> {
  const counts = ['origins', 'trackers', 'proxies', 'agents'].flatMap((role) => [`--${role}`, '1']);
  const up = await startUp(stops, dir, [...counts, '--upstream', `bench=${registry.url}`]);
  const { agents, proxies, origins, trackers } = up.cluster;
  return {
    registry,
    agent: agents[0]!,
    proxy: proxies[0]!,
    origin: origins[0]!,
    tracker: trackers[0]!,
    keyFile: join(up.dir, 'cluster-key'),
  };
}

/** `sepia up` with `args` on ports that are free; ends with `stops`. */
export async function startUp(stops: StopStack, dir: string, args: readonly string[]): Promise<Up> {
  for (let tried = 1; ; tried++) {
    const portsFrom = PORTS_FROM + 10 * Math.floor((Math.random() * PORTS_SPAN) / 10);
    try {
      const up = await Up.start(join(dir, `up-${tried}`), [...args, '--ports-from', String(portsFrom)]);
      stops.push('cluster', async () => {
        await up.stop();
      });
      return up;
    } catch (error) {
      throwIfBug(error);
      if (tried === TRIES) throw error;
    }
  }
}
