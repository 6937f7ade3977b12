import { CodedError } from '@sepia/base/errors';

/** Bytes of the BitTorrent handshake (BEP 3): 1 + 19 + 8 reserved + 20 info_hash + 20 peer id. */
export const HANDSHAKE_BYTES = 68;
const PIECE_ID = 7;
const PIECE_HEAD_BYTES = 9;

/** Who takes what {@link FrameParser} finds. Any method may throw a coded error: the stream ends there. */
export interface FrameSink {
  /** True once the wire is closed: parsing stops. */
  readonly closed: boolean;
  onHandshakeFrame(bytes: Uint8Array): void;
  /** Asked before a byte of the message is kept. Throws if messages may not be that long now. */
  checkLength(length: number): void;
  /** A whole message, id first: a view that is gone after the call. */
  onFrame(message: Uint8Array): void;
  /** Head of a `piece` message. Returns where its bytes go (exactly `length` long), or undefined to throw them away. */
  onBlockHead(index: number, offset: number, length: number): Uint8Array | undefined;
  /** Bytes of the current block arrived; `done` with the last ones. */
  onBlockBytes(count: number, done: boolean): void;
}

type State = 'handshake' | 'length' | 'frame' | 'block';

/**
 * Cuts a byte stream into BitTorrent messages in O(n): never joins chunks; small messages that lie in one chunk are
 * not copied, split ones are collected in a buffer of their length, blocks go straight to where they belong.
 * Lengths are unsigned 32-bit. Keeps no reference to a chunk after {@link FrameParser.push}.
 */
export class FrameParser {
  readonly #sink: FrameSink;
  #state: State = 'handshake';
  /** Bytes of a header or message that is split over chunks. */
  #partial: Uint8Array = new Uint8Array(HANDSHAKE_BYTES);
  #filled = 0;
  #need = HANDSHAKE_BYTES;
  #messageLength = 0;
  #target: Uint8Array | undefined;
  #blockLength = 0;
  #blockFilled = 0;

  constructor(sink: FrameSink) {
    this.#sink = sink;
  }

  /** Takes the next bytes, which are the caller's again afterwards. @throws what the sink throws */
  push(given: Uint8Array): void {
    // Views of a Buffer cost more, and its `slice` would not copy.
    const chunk = new Uint8Array(given.buffer, given.byteOffset, given.byteLength);
    let at = 0;
    while (at < chunk.length && !this.#sink.closed) {
      if (this.#state === 'block') {
        at += this.#takeBlock(chunk, at);
        continue;
      }
      const missing = this.#need - this.#filled;
      if (this.#filled === 0 && chunk.length - at >= missing) {
        const view = chunk.subarray(at, at + missing);
        at += missing;
        this.#whole(view);
        continue;
      }
      const take = Math.min(missing, chunk.length - at);
      if (this.#partial.length < this.#need) this.#partial = new Uint8Array(this.#need);
      this.#partial.set(chunk.subarray(at, at + take), this.#filled);
      this.#filled += take;
      at += take;
      if (this.#filled === this.#need) {
        this.#filled = 0;
        this.#whole(this.#partial.subarray(0, this.#need));
      }
    }
  }

  #takeBlock(chunk: Uint8Array, at: number): number {
    const take = Math.min(this.#blockLength - this.#blockFilled, chunk.length - at);
    this.#target?.set(chunk.subarray(at, at + take), this.#blockFilled);
    this.#blockFilled += take;
    const done = this.#blockFilled === this.#blockLength;
    if (done) {
      this.#target = undefined;
      this.#expect('length', 4);
    }
    this.#sink.onBlockBytes(take, done);
    return take;
  }

  /** Stops writing into the current block's target: its owner took it back. */
  dropTarget(): void {
    this.#target = undefined;
  }

  #whole(bytes: Uint8Array): void {
    switch (this.#state) {
      case 'handshake':
        this.#expect('length', 4);
        this.#sink.onHandshakeFrame(bytes);
        return;
      case 'length': {
        const length = readUint32(bytes, 0);
        this.#sink.checkLength(length);
        if (length === 0) return;
        this.#messageLength = length;
        this.#expect('frame', Math.min(length, PIECE_HEAD_BYTES));
        return;
      }
      case 'frame':
        this.#frame(bytes);
    }
  }

  /** The first 9 bytes decide: a block streams on, anything else is read whole. */
  #frame(bytes: Uint8Array): void {
    const length = this.#messageLength;
    if (bytes[0] === PIECE_ID) {
      if (bytes.length < PIECE_HEAD_BYTES || length <= PIECE_HEAD_BYTES) throw invalidWire('empty block');
      this.#blockLength = length - PIECE_HEAD_BYTES;
      this.#blockFilled = 0;
      this.#state = 'block';
      this.#target = this.#sink.onBlockHead(readUint32(bytes, 1), readUint32(bytes, 5), this.#blockLength);
      return;
    }
    if (bytes.length < length) {
      const whole = new Uint8Array(length);
      whole.set(bytes);
      this.#partial = whole;
      this.#need = length;
      this.#filled = bytes.length;
      return;
    }
    this.#expect('length', 4);
    this.#sink.onFrame(bytes);
  }

  #expect(state: State, need: number): void {
    this.#state = state;
    this.#need = need;
    this.#filled = 0;
    if (this.#partial.length > HANDSHAKE_BYTES) this.#partial = new Uint8Array(HANDSHAKE_BYTES);
  }
}

/** A u32, big-endian, at `at`; the caller knows that it is there. */
export function readUint32(bytes: Uint8Array, at: number): number {
  return ((bytes[at]! << 24) | (bytes[at + 1]! << 16) | (bytes[at + 2]! << 8) | bytes[at + 3]!) >>> 0;
}

/** `WIRE_INVALID` for what a peer sent against the protocol, with the `part` that was wrong; the wire is closed for it. */
export function invalidWire(part: string): CodedError {
  return new CodedError('WIRE_INVALID', {
    message: `peer broke the wire protocol: ${part}`,
    detail: { part },
  });
}
