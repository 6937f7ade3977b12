import { DEFAULT_AGENT } from '../up/plan.ts';
import { type ImageReference, isThisMachine } from './image-reference.ts';

/** A host of this machine in the reference is the registry itself; any other names the upstream, as containerd does with `ns`. */
export function sourceOf(
  image: ImageReference,
  agent: string | undefined,
): { url: string; ns: string | undefined } {
  const { host } = image;
  const isHere = host !== undefined && isThisMachine(host);
  if (agent === undefined && isHere) return { url: `http://${host}`, ns: undefined };
  return { url: agent ?? DEFAULT_AGENT, ns: host };
}
