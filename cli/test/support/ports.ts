import { type ClusterShape, planMembers } from '../../src/up/plan.ts';
import { takenPort } from '../../src/up/ports.ts';

/**
 * A base with which no port of the shape is taken just now, chosen by process and attempt; below the range from which
 * systems take the ports of outgoing connections, and below the ports of `@sepia/test-support/free-ports`.
 */
export async function freeBase(counts: ClusterShape['counts']): Promise<number> {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    const portsFrom = 10_000 + ((process.pid * 7 + attempt * 5) % 12) * 400;
    if ((await takenPort(planMembers({ counts, portsFrom }))) === undefined) return portsFrom;
  }
  throw new Error('no free ports');
}
