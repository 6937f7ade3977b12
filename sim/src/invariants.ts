import type { SwarmCore } from '@sepia/swarm/core/swarm-core';

/** What must hold of a node's core after each event. @throws {Error} that names the node and what does not hold */
export function checkCore(name: string, core: SwarmCore): void {
  const fail = (what: string): never => {
    throw new Error(`${name}: ${what}`);
  };
  const { limits, have, links } = core;
  if (links.members > limits.wires + 1) fail(`${links.members} wires`);
  const askers = new Map<number, number>();
  let stalled = 0;
  for (const link of links.values()) {
    if (link.stalled) stalled += 1;
    if (link.fetches.size > limits.depthMax + 1)
      fail(`${link.fetches.size} pieces asked of ${link.peerId} at once`);
    for (const index of link.fetches.keys()) {
      if (have.has(index)) fail(`piece ${index} is here and asked of ${link.peerId}`);
      if (link.kind === 'wire' && !link.has.has(index))
        fail(`piece ${index} asked of ${link.peerId}, who has it not`);
      askers.set(index, (askers.get(index) ?? 0) + 1);
    }
  }
  for (const [index, count] of askers)
    if (count > limits.fetchers + stalled) fail(`piece ${index} asked of ${count} at once`);
  for (const link of links.eager)
    if (links.get(link.id) !== link) fail(`a link to ${link.peerId} that is no more is asked`);
}
