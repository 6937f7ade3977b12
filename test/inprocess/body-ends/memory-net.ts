import type { Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { CodedError } from '@sepia/base/errors';
import type { Chance } from '@sepia/swarm/core/random';
import type { Listener, SwarmNet } from '@sepia/swarm/shell/net';

/** What a connection does to what is written to it, from some chunk on. */
type Fate = 'well' | 'reset' | 'stall' | 'flip' | 'slow';

const FATES: readonly Fate[] = ['reset', 'stall', 'flip', 'slow'];
/** Chunks of a connection within which its fate comes. */
const FATE_WITHIN = 12;
const SLOW_MS = 1_500;

/** One end of a connection in memory. What is written arrives at the other end in order, a few ms later. */
class MemorySocket extends Duplex {
  readonly remoteAddress = '10.0.0.9';
  readonly remotePort = 7;
  bytesWritten = 0;
  other: MemorySocket | undefined;
  readonly #chance: Chance;
  readonly #fate: Fate;
  #chunksLeft: number;

  constructor(chance: Chance, faults: boolean) {
    super({ allowHalfOpen: false });
    this.#chance = chance;
    this.#fate = faults && chance.next() < 0.4 ? FATES[chance.below(FATES.length)]! : 'well';
    this.#chunksLeft = chance.below(FATE_WITHIN);
    // As sockets of the swarm: whoever does not listen is not told.
    this.on('error', () => undefined);
  }

  setTimeout(): this {
    return this;
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error) => void): void {
    // A copy: the writer may use its memory again once it was taken.
    const bytes = Buffer.from(chunk);
    const isFated = this.#fate !== 'well' && this.#chunksLeft-- <= 0;
    if (isFated && this.#fate === 'stall') return;
    if (isFated && this.#fate === 'reset') {
      done(Object.assign(new Error('reset'), { code: 'ECONNRESET' }));
      return;
    }
    if (isFated && this.#fate === 'flip') bytes[this.#chance.below(bytes.length)]! ^= 1;
    const lateMs = this.#chance.below(isFated && this.#fate === 'slow' ? SLOW_MS : 4);
    setTimeout(() => {
      this.bytesWritten += bytes.length;
      this.other?.push(bytes);
      done();
    }, lateMs);
  }

  override _final(done: () => void): void {
    this.other?.push(null);
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    const { other } = this;
    this.other = undefined;
    if (other !== undefined && !other.destroyed) setTimeout(() => other.destroy(), 1);
    done(error);
  }
}

/** Connections of a swarm without a network: on the process's clock, with seeded faults. */
export class MemoryNet implements SwarmNet {
  readonly #chance: Chance;
  readonly #faults: boolean;
  readonly #listeners = new Map<string, (socket: Socket) => void>();

  constructor(chance: Chance, faults: boolean) {
    this.#chance = chance;
    this.#faults = faults;
  }

  /** Whoever dials `address` (`host:port`) is let in. */
  listen(address: string, onSocket: (socket: Socket) => void): Promise<Listener> {
    this.#listeners.set(address, onSocket);
    const [host = '', port] = address.split(':');
    const close = async (): Promise<void> => void this.#listeners.delete(address);
    return Promise.resolve({ address: host, port: Number(port), close });
  }

  dial(
    address: string,
    timeoutMs: number,
    done: (socket: Socket | undefined, error?: CodedError) => void,
  ): () => void {
    const onSocket = this.#listeners.get(address);
    const isSilent = this.#faults && this.#chance.next() < 0.1;
    const waitMs = onSocket === undefined || isSilent ? timeoutMs : 1 + this.#chance.below(20);
    const timer = setTimeout(() => {
      if (onSocket === undefined || isSilent) {
        done(undefined, new CodedError('TIMEOUT', { message: `no connection to ${address}` }));
        return;
      }
      const [near, far] = [0, 1].map(() => new MemorySocket(this.#chance, this.#faults));
      near!.other = far;
      far!.other = near;
      onSocket(far as unknown as Socket);
      done(near as unknown as Socket);
    }, waitMs);
    return () => clearTimeout(timer);
  }
}
