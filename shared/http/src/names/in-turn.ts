import type { LookupAddress } from 'node:dns';
import { isIP, type LookupFunction, type Socket } from 'node:net';
import { ExpiringMap } from '@sepia/base/expiring-map';
import { LOOKUP_MS, MUTE_MS, NEXT_ADDRESS_MS } from '../deadlines/sockets.ts';
import { inDialOrder } from './core/dial-order.ts';

/** Addresses that are remembered as mute at most. */
const MAX_MUTE = 10_000;

/** Further URLs, without path, that lead to the same server as `origin` (`http://host:port`), in the order to try them. */
export type FurtherAddresses = (origin: string) => readonly string[];

/** What opens a connection, as undici has it. */
type Connector = import('undici').buildConnector.connector;
/** Whom to dial. */
type Way = Parameters<Connector>[0];
type Callback = Parameters<Connector>[1];

/**
 * Dials a name at all of its addresses, one beside the other. Node gives one up when it tries the next: what answers slowly is
 * never reached then where the last one is dead. Nor does the time that a name server takes count as that of a connection.
 */
export function atEachAddress(dial: Connector, lookup: LookupFunction, lookupMs = LOOKUP_MS): Connector {
  return (to, done) => {
    if (isIP(to.hostname) !== 0) return dial(to, done);
    let isOver = false;
    const found = (error: Error | null, addresses: readonly LookupAddress[]): void => {
      clearTimeout(timer);
      if (isOver) return;
      isOver = true;
      const ways = inDialOrder(addresses).map(({ address }) => ({ ...to, hostname: address }));
      if (error !== null || ways.length === 0) done(error ?? noAddress(to.hostname), null);
      else race(ways, dial, done);
    };
    const timer = setTimeout(() => found(noAnswer(to.hostname), []), lookupMs);
    lookup(to.hostname, { all: true }, (error, addresses) => found(error, addresses as LookupAddress[]));
  };
}

/**
 * Dials who has several URLs at each in turn. One on whose connections nothing comes is tried last for a while.
 */
export function inTurn(dial: Connector, furtherOf: FurtherAddresses | undefined): Connector {
  if (furtherOf === undefined) return dial;
  const mute = new MuteAddresses();
  return (to, done) => {
    const further = furtherOf(`${to.protocol}//${to.host ?? to.hostname}`);
    if (further.length === 0) return dial(to, done);
    const { localAddress = null } = to;
    const ways = mute.last([to, ...further.map((url) => ({ ...endOf(url), localAddress }))]);
    race(ways, dial, done, (socket, way) => mute.watch(socket, way));
  };
}

/**
 * Dials at the next one when one failed, or was silent for a moment. The first connection counts; without any the error of
 * what was tried first.
 */
function race(
  ways: readonly Way[],
  dial: Connector,
  done: Callback,
  onConnected: (socket: Socket, way: Way) => void = () => undefined,
): void {
  const errors: Error[] = [];
  let isOver = false;
  let next = 0;
  let timer: NodeJS.Timeout | undefined;
  const dialNext = (): void => {
    clearTimeout(timer);
    const way = ways[next++];
    if (way === undefined) return;
    if (next < ways.length) timer = setTimeout(dialNext, NEXT_ADDRESS_MS);
    const at = next - 1;
    dial(way, (...[error, socket]) => {
      if (isOver) {
        socket?.destroy();
        return;
      }
      if (error !== null) {
        errors[at] = error;
        isOver = Object.keys(errors).length === ways.length;
        if (isOver) done(errors[0]!, null);
        else if (at === next - 1) dialNext();
        return;
      }
      isOver = true;
      clearTimeout(timer);
      onConnected(socket, way);
      done(null, socket);
    });
  };
  dialNext();
}

/** Who takes a connection need not be who is meant, nor well: addresses on whose connections something was asked and nothing came. */
class MuteAddresses {
  readonly #mute = new ExpiringMap<true>(MAX_MUTE);

  /** The same addresses, those that lately gave no answer last. */
  last(ways: readonly Way[]): readonly Way[] {
    const nowMs = performance.now();
    const isMute = (way: Way): boolean => this.#mute.get(keyOf(way), nowMs) === true;
    return [...ways.filter((way) => !isMute(way)), ...ways.filter(isMute)];
  }

  watch(socket: Socket, way: Way): void {
    const key = keyOf(way);
    const openedMs = performance.now();
    socket.once('close', () => {
      const nowMs = performance.now();
      if (socket.bytesRead > 0) this.#mute.delete(key);
      else if (socket.bytesWritten > 0 && nowMs - openedMs >= NEXT_ADDRESS_MS)
        this.#mute.set(key, true, nowMs + MUTE_MS);
    });
  }
}

function keyOf({ host, hostname }: Way): string {
  return host ?? hostname;
}

function endOf(url: string): Pick<Way, 'protocol' | 'host' | 'hostname' | 'port'> {
  const { protocol, host, hostname, port } = new URL(url);
  return { protocol, host, hostname: hostname.replace(/^\[|\]$/g, ''), port };
}

function noAnswer(name: string): Error {
  return Object.assign(new Error(`no name server answers for ${name}`), { code: 'EAI_AGAIN' });
}

function noAddress(name: string): Error {
  return Object.assign(new Error(`${name} has no address`), { code: 'ENOTFOUND' });
}
