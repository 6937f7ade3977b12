import type { SwarmCore } from '@sepia/swarm/core/swarm-core';

/** What must hold of a node's core after each event. @throws {Error} that names the node and what does not hold */
export function checkCore(name: string, core: SwarmCore): void {
  const fail = (what: string): never => {
    throw new Error(`${name}: ${what}`);
  };
  const { limits, have, links } = core;
  if (links.members > limits.wires + 1) fail(`${links.members} wires`);
  for (const link of links.values()) {
    if (link.fetches.size > limits.depthMax + 1)
      fail(`${link.fetches.size} pieces asked of ${link.peerId} at once`);
    for (const index of link.fetches.keys()) {
      if (have.has(index)) fail(`piece ${index} is here and asked of ${link.peerId}`);
      if (link.kind === 'wire' && !link.has.has(index))
        fail(`piece ${index} asked of ${link.peerId}, who has it not`);
    }
  }
  for (const link of links.eager)
    if (links.get(link.id) !== link) fail(`a link to ${link.peerId} that is no more is asked`);
}

/** What must hold where a piece was just asked for: beside those that have stalled few bring it. @throws {Error} as above */
export function checkAsked(name: string, { limits, links }: SwarmCore, index: number): void {
  const askers = [...links.values()].filter((link) => link.fetches.has(index));
  const moving = askers.filter((link) => !link.stalled).length;
  if (moving > limits.fetchers + 1) throw new Error(`${name}: piece ${index} asked of ${moving} at once`);
}
