import { CodedError } from '@sepia/base/errors';
import {
  CODE_LENGTH_ORDER,
  DISTANCE_BASE,
  DISTANCE_EXTRA,
  DISTANCE_SYMBOLS,
  fixedTables,
  LENGTH_BASE,
  LENGTH_EXTRA,
  LITERAL_SYMBOLS,
} from './deflate-codes.ts';
import { HuffmanTable, LINK, PRIMARY_BITS } from './huffman.ts';

/** So far back may a match reach (RFC 1951, 2). */
export const WINDOW_BYTES = 32 * 1024;
const OUT_BYTES = 256 * 1024;
const LONGEST_MATCH = 258;
/** Bytes that a block's header can take: 14 bits, 19 lengths of 3 bits, 320 codes of up to 14 bits. */
const HEADER_BYTES = 640;
/** Bytes that one symbol can take, with the bits that are held ahead. */
const SYMBOL_BYTES = 12;
const END_OF_BLOCK = 256;

/** What an {@link Inflater} tells while it reads. */
export interface InflateSink {
  /** Output in order; a view that holds only during the call. */
  output(bytes: Uint8Array): void;
  /** A block begins at this bit of the stream, after `output` bytes of it. All output before has been told. */
  block(bit: number, output: number): void;
  /** A match reaches back `distance` bytes from `output` for `length` bytes; told only while {@link Inflater.watch} says so. */
  reach(output: number, distance: number, length: number): void;
}

interface Tables {
  readonly literals: HuffmanTable;
  readonly distances: HuffmanTable;
}

type State = 'block' | 'stored' | 'symbols' | 'ended';

/**
 * An inflater in plain JS that says where each block begins (RFC 1951): zlib knows, Node's binding does not show it.
 * Input comes in chunks; what is too short for the next step waits. Several streams may follow one another, with other
 * bytes between them ({@link unread}, {@link skip}, {@link restart}); offsets go on over all of them.
 */
export class Inflater {
  readonly #sink: InflateSink;
  #state: State = 'ended';
  #input: Uint8Array = new Uint8Array();
  /** Bytes of `#input` that are real; zeros follow after {@link finish}. */
  #limit = 0;
  #isFinished = false;
  #at = 0;
  /** Input before `#input[0]`. */
  #inputBase = 0;
  #hold = 0;
  #bits = 0;
  #isLast = false;
  #stored = 0;
  readonly #out = Buffer.alloc(WINDOW_BYTES + OUT_BYTES + LONGEST_MATCH);
  /** Where the present stream begins in `#out`, at the earliest. */
  #start = 0;
  #end = 0;
  #told = 0;
  /** Output before `#out[0]`. */
  #outBase = 0;
  #watch = -1;
  readonly #fixed: Tables = fixedTables();
  readonly #dynamic: Tables = {
    literals: new HuffmanTable(LITERAL_SYMBOLS),
    distances: new HuffmanTable(DISTANCE_SYMBOLS),
  };
  #tables: Tables = this.#fixed;
  readonly #lengthTable = new HuffmanTable(19);
  readonly #lengths = new Uint8Array(LITERAL_SYMBOLS + DISTANCE_SYMBOLS);

  constructor(sink: InflateSink) {
    this.#sink = sink;
  }

  /** Output so far, of all streams. */
  get output(): number {
    return this.#outBase + this.#end;
  }

  /** True before the first and after the end of each stream. */
  get ended(): boolean {
    return this.#state === 'ended';
  }

  /** From now on, matches are told that reach back beyond the output so far. */
  watch(): void {
    this.#watch = this.output;
  }

  /** The last output of the present stream, at most 32 KiB, as a copy. */
  window(): Buffer {
    return Buffer.from(this.#out.subarray(Math.max(this.#start, this.#end - WINDOW_BYTES), this.#end));
  }

  /** Adds input. */
  feed(chunk: Uint8Array): void {
    const rest = this.unread();
    this.#inputBase += this.#at;
    this.#input = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    this.#limit = this.#input.length;
    this.#at = 0;
  }

  /** Says that no more input comes. */
  finish(): void {
    this.#isFinished = true;
    this.#input = Buffer.concat([this.#input, Buffer.alloc(HEADER_BYTES + SYMBOL_BYTES)]);
  }

  /** Input that no stream has taken, between streams. */
  unread(): Uint8Array {
    return this.#input.subarray(this.#at, this.#limit);
  }

  /** Passes over input between streams. */
  skip(count: number): void {
    this.#at += count;
  }

  /** Begins a stream at the present place. */
  restart(): void {
    this.#state = 'block';
    this.#start = this.#end;
  }

  /** Goes as far as the input allows. @throws {CodedError} `LAYER_INVALID` */
  run(): void {
    const length = this.#isFinished ? this.#input.length : this.#limit;
    while (this.#state !== 'ended') {
      if (this.#state === 'block') {
        if (length - this.#at < HEADER_BYTES) break;
        this.#beginBlock();
      } else if (this.#state === 'stored') {
        if (!this.#copyStored()) break;
      } else if (this.#symbols(length)) this.#endBlock();
      else break;
    }
    this.#tell();
    const isCut = this.#at * 8 - this.#bits > this.#limit * 8 || this.#state !== 'ended';
    if (this.#isFinished && isCut) this.#invalid('the stream is cut short');
  }

  #endBlock(): void {
    this.#state = 'block';
    if (!this.#isLast) return;
    this.#state = 'ended';
    // Whole bytes that were held ahead belong to what follows.
    this.#at -= this.#bits >>> 3;
    this.#bits = 0;
    this.#hold = 0;
  }

  #beginBlock(): void {
    this.#tell();
    this.#sink.block((this.#inputBase + this.#at) * 8 - this.#bits, this.output);
    this.#isLast = this.#take(1) === 1;
    const kind = this.#take(2);
    if (kind === 0) this.#beginStored();
    else if (kind === 1) this.#begin(this.#fixed);
    else if (kind === 2) this.#begin(this.#readTables());
    else this.#invalid('unknown kind of block');
  }

  #begin(tables: Tables): void {
    this.#tables = tables;
    this.#state = 'symbols';
  }

  #beginStored(): void {
    this.#take(this.#bits & 7);
    const length = this.#take(16);
    if ((this.#take(16) ^ 0xffff) !== length) this.#invalid('length of a stored block');
    this.#at -= this.#bits >>> 3;
    this.#bits = 0;
    this.#hold = 0;
    this.#stored = length;
    this.#state = 'stored';
  }

  #copyStored(): boolean {
    while (this.#stored > 0) {
      if (this.#end >= WINDOW_BYTES + OUT_BYTES) this.#makeRoom();
      const room = WINDOW_BYTES + OUT_BYTES - this.#end;
      const take = Math.min(this.#stored, this.#limit - this.#at, room);
      if (take <= 0) return false;
      this.#out.set(this.#input.subarray(this.#at, this.#at + take), this.#end);
      this.#at += take;
      this.#end += take;
      this.#stored -= take;
    }
    this.#endBlock();
    return true;
  }

  #readTables(): Tables {
    const literals = this.#take(5) + 257;
    const distances = this.#take(5) + 1;
    const codes = this.#take(4) + 4;
    if (literals > 286 || distances > 30) this.#invalid('too many symbols');
    const lengths = this.#lengths.fill(0);
    for (let index = 0; index < codes; index++) lengths[CODE_LENGTH_ORDER[index]!] = this.#take(3);
    if (!this.#lengthTable.build(lengths, 0, 19, false)) this.#invalid('code lengths of a block');
    lengths.fill(0);
    for (let at = 0; at < literals + distances; ) at = this.#readLength(lengths, at, literals + distances);
    const { literals: literalTable, distances: distanceTable } = this.#dynamic;
    const isGood =
      lengths[END_OF_BLOCK] !== 0 &&
      literalTable.build(lengths, 0, literals, true) &&
      distanceTable.build(lengths, literals, distances, true);
    if (!isGood) this.#invalid('codes of a block');
    return this.#dynamic;
  }

  /** Reads one code length or one run of them. @returns the next index */
  #readLength(lengths: Uint8Array, at: number, count: number): number {
    this.#refill();
    const entry = this.#lengthTable.entries[this.#hold & ((1 << PRIMARY_BITS) - 1)]!;
    if (entry === 0) this.#invalid('code length of a block');
    this.#take(entry & 15);
    const symbol = entry >>> 4;
    if (symbol < 16) {
      lengths[at] = symbol;
      return at + 1;
    }
    if (symbol === 16 && at === 0) this.#invalid('repeated length before any');
    const value = symbol === 16 ? lengths[at - 1]! : 0;
    const run = symbol === 16 ? 3 + this.#take(2) : symbol === 17 ? 3 + this.#take(3) : 11 + this.#take(7);
    if (at + run > count) this.#invalid('too many code lengths');
    lengths.fill(value, at, at + run);
    return at + run;
  }

  /** Decodes until the block ends (true) or the input is too short (false). The hot loop: fields are kept in locals. */
  #symbols(length: number): boolean {
    const input = this.#input;
    const out = this.#out;
    const literals = this.#tables.literals.entries;
    const distances = this.#tables.distances.entries;
    const mask = (1 << PRIMARY_BITS) - 1;
    const lastAt = length - SYMBOL_BYTES;
    const outLimit = WINDOW_BYTES + OUT_BYTES;
    let at = this.#at;
    let hold = this.#hold;
    let bits = this.#bits;
    let end = this.#end;
    let isDone = false;
    while (at <= lastAt) {
      if (end >= outLimit) {
        this.#end = end;
        this.#makeRoom();
        end = this.#end;
      }
      while (bits <= 24) {
        hold |= input[at++]! << bits;
        bits += 8;
      }
      let entry = literals[hold & mask]!;
      if (entry < 0)
        entry = literals[((entry & ~LINK) >>> 4) + ((hold >>> PRIMARY_BITS) & ((1 << (entry & 15)) - 1))]!;
      const used = entry & 15;
      if (used === 0) this.#invalid('code');
      hold >>>= used;
      bits -= used;
      const symbol = entry >>> 4;
      if (symbol < END_OF_BLOCK) {
        out[end++] = symbol;
        continue;
      }
      if (symbol === END_OF_BLOCK) {
        isDone = true;
        break;
      }
      if (symbol > 285) this.#invalid('length');
      const lengthExtra = LENGTH_EXTRA[symbol - 257]!;
      const count = LENGTH_BASE[symbol - 257]! + (hold & ((1 << lengthExtra) - 1));
      hold >>>= lengthExtra;
      bits -= lengthExtra;
      while (bits <= 24) {
        hold |= input[at++]! << bits;
        bits += 8;
      }
      entry = distances[hold & mask]!;
      if (entry < 0)
        entry = distances[((entry & ~LINK) >>> 4) + ((hold >>> PRIMARY_BITS) & ((1 << (entry & 15)) - 1))]!;
      const distanceBits = entry & 15;
      const distanceSymbol = entry >>> 4;
      if (distanceBits === 0 || distanceSymbol > 29) this.#invalid('distance');
      hold >>>= distanceBits;
      bits -= distanceBits;
      const distanceExtra = DISTANCE_EXTRA[distanceSymbol]!;
      while (bits < distanceExtra) {
        hold |= input[at++]! << bits;
        bits += 8;
      }
      const distance = DISTANCE_BASE[distanceSymbol]! + (hold & ((1 << distanceExtra) - 1));
      hold >>>= distanceExtra;
      bits -= distanceExtra;
      if (distance > end - this.#start) this.#invalid('distance reaches before the start');
      if (this.#outBase + end - distance < this.#watch)
        this.#sink.reach(this.#outBase + end, distance, count);
      for (let from = end - distance, stop = end + count; end < stop; ) out[end++] = out[from++]!;
    }
    this.#at = at;
    this.#hold = hold;
    this.#bits = bits;
    this.#end = end;
    return isDone;
  }

  /** Keeps the last 32 KiB, at the front of the buffer. */
  #makeRoom(): void {
    this.#tell();
    const drop = this.#end - WINDOW_BYTES;
    this.#out.copyWithin(0, drop, this.#end);
    this.#outBase += drop;
    this.#start = Math.max(0, this.#start - drop);
    this.#end = WINDOW_BYTES;
    this.#told = WINDOW_BYTES;
  }

  #tell(): void {
    if (this.#end === this.#told) return;
    this.#sink.output(this.#out.subarray(this.#told, this.#end));
    this.#told = this.#end;
  }

  #refill(): void {
    while (this.#bits <= 24) {
      this.#hold |= (this.#input[this.#at++] ?? 0) << this.#bits;
      this.#bits += 8;
    }
  }

  #take(count: number): number {
    if (this.#bits < count) this.#refill();
    const value = this.#hold & ((1 << count) - 1);
    this.#hold >>>= count;
    this.#bits -= count;
    return value;
  }

  #invalid(what: string): never {
    throw new CodedError('LAYER_INVALID', {
      message: `compressed data is not valid: ${what}`,
      detail: { offset: this.#inputBase + this.#at },
    });
  }
}
