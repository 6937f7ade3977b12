import { CodedError } from '@sepia/base/errors';
import { TRICKLE_MS } from '../deadlines/upstreams.ts';
import { Trickle } from './core/trickle.ts';

interface FlowFacts {
  /** Bytes that must come, where known: all of them are enough, however slowly they came. */
  readonly expectedBytes?: number | undefined;
  /** What the other side is, for messages. */
  readonly peer?: string | undefined;
}

/**
 * The chunks of a body that `host` sends, as they come; each may be given back before the next one is asked for.
 * @throws {CodedError} `BACKEND_DOWN` where it only trickles: it would never be silent, and never end; what the body fails with
 */
export async function* flowing(
  host: string,
  body: AsyncIterable<Uint8Array>,
  { expectedBytes, peer = 'upstream registry' }: FlowFacts = {},
): AsyncGenerator<Uint8Array, void, undefined> {
  const trickle = new Trickle(TRICKLE_MS);
  let found = 0;
  let askedMs = performance.now();
  for await (const chunk of body) {
    found += chunk.length;
    if (trickle.came(chunk.length, performance.now() - askedMs) && found !== expectedBytes)
      throw new CodedError('BACKEND_DOWN', {
        message: `${peer} ${host}: the body only trickles`,
        detail: { host, reason: 'trickles' },
      });
    yield chunk;
    askedMs = performance.now();
  }
}
