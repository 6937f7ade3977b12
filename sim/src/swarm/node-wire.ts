import type { LinkId } from '@sepia/swarm/core/events';
import type { Port } from '../wire/network.ts';
import { type Flow, newFlow } from '../wire/uplink.ts';
import type { SimNode } from './node.ts';

/** One end's way to the other. */
export interface Wire {
  readonly node: SimNode;
  readonly link: LinkId;
  readonly flow: Flow;
  /** The other end's way here; it is open while that end has the wire. */
  back: Wire | undefined;
  isOpen: boolean;
}

/** Ways between a node with its link and port, and another: that of the first, which has that of the second as its `back`. */
export function newWires(near: WireEnd, far: WireEnd): Wire {
  const [ours, back] = [newWire(far), newWire(near)];
  ours.back = back;
  back.back = ours;
  return ours;
}

/** A node, its link of the wire and its port. */
interface WireEnd {
  readonly node: SimNode;
  readonly link: LinkId;
  readonly port: Port;
}

function newWire({ node, link, port }: WireEnd): Wire {
  return { node, link, flow: newFlow(port), back: undefined, isOpen: true };
}
