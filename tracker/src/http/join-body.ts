import { peerIdHexOf } from '@sepia/base/names/peer-id';
import type { JoinAnswer, PeerEntry } from '@sepia/cluster/api/join';
import type { Handout } from '../swarms/core/swarm-table.ts';

/** JSON of peer entries, kept: up to 50 of them are most of an answer, and they repeat from answer to answer. */
const worded = new WeakMap<Handout, string>();

/** The peer entry of a node in the answer to a join. */
export function peerEntry({ nodeId, addresses, zone }: Handout): PeerEntry {
  return {
    peerId: peerIdHexOf(nodeId),
    nodeId,
    addresses,
    origin: false,
    ...(zone === undefined ? {} : { zone }),
  };
}

/** The JSON of an answer to a join, with `nodes` behind its peers, if it has peers. Bytes: they go out as they are. */
export function joinBody(answer: JoinAnswer, nodes: readonly Handout[]): Buffer {
  if (answer.kind === 'small') return Buffer.from(JSON.stringify(answer));
  const { peers, ...rest } = answer;
  const all = [...peers.map((peer) => JSON.stringify(peer)), ...nodes.map(wordsOf)];
  return Buffer.from(`${JSON.stringify(rest).slice(0, -1)},"peers":[${all.join(',')}]}`);
}

function wordsOf(node: Handout): string {
  let words = worded.get(node);
  if (words === undefined) {
    words = JSON.stringify(peerEntry(node));
    worded.set(node, words);
  }
  return words;
}
