import { textOf } from '../tar/byte-string.ts';
import type { TarEntry } from '../tar/tar-entry.ts';
import { Crc64 } from './crc64.ts';

const NEWLINE = 0x0a;
const SEGMENT = 2;
const FILE = 1;

/** What one line of a tar-split stands for. */
interface Piece {
  /** Bytes of the tar; undefined: content of a file. */
  readonly segment?: Buffer;
  readonly sizeBytes: number;
  readonly crc?: string;
}

/**
 * Puts a tar together by its tar-split as the tar itself goes by, and notes the first difference: another byte, another
 * CRC-64, another name, or another end.
 */
export class TarSplitCheck {
  readonly #lines: Buffer;
  readonly #found: (message: string) => void;
  #at = 0;
  #piece: Piece | undefined;
  /** Bytes of the piece that have gone by. */
  #done = 0;
  #crc = new Crc64();
  #tarBytes = 0;
  /** Names of files that came in the tar-split, and of entries that came in the tar, and were not compared yet. */
  readonly #names: string[] = [];
  readonly #entries: string[] = [];
  #isOver = false;

  constructor(lines: Buffer, found: (message: string) => void) {
    this.#lines = lines;
    this.#found = found;
  }

  /** The next bytes of the tar. */
  see(raw: Uint8Array): void {
    for (let at = 0; at < raw.length && !this.#isOver; ) {
      this.#piece ??= this.#nextWithBytes();
      if (this.#piece === undefined) {
        this.#wrong('it ends before the tar does');
        return;
      }
      const taken = raw.subarray(at, at + this.#piece.sizeBytes - this.#done);
      this.#compare(this.#piece, taken);
      at += taken.length;
      this.#done += taken.length;
      this.#tarBytes += taken.length;
      if (this.#done === this.#piece.sizeBytes) this.#endPiece(this.#piece);
    }
  }

  /** The next entry of the tar. */
  seeEntry(entry: TarEntry): void {
    this.#entries.push(textOf(entry.name));
  }

  /** The tar has ended. */
  end(): void {
    if (this.#isOver) return;
    if (this.#piece !== undefined || this.#nextWithBytes() !== undefined)
      this.#wrong('the tar ends before it does');
    const count = Math.max(this.#names.length, this.#entries.length);
    for (let index = 0; index < count && !this.#isOver; index += 1)
      if (this.#names[index] !== this.#entries[index])
        this.#wrong(
          `entry ${index} is named ${shown(this.#names[index])}, in the tar ${shown(this.#entries[index])}`,
        );
  }

  #compare(piece: Piece, bytes: Uint8Array): void {
    if (piece.segment === undefined) this.#crc.update(bytes);
    else if (Buffer.compare(piece.segment.subarray(this.#done, this.#done + bytes.length), bytes) !== 0)
      this.#wrong(`the tar differs from it within ${bytes.length} bytes of byte ${this.#tarBytes}`);
  }

  #endPiece({ segment, crc }: Piece): void {
    if (segment === undefined) {
      if (this.#crc.digest().toString('base64') !== crc)
        this.#wrong(`the file that ends at byte ${this.#tarBytes} of the tar does not match its CRC-64`);
      this.#crc = new Crc64();
    }
    this.#piece = undefined;
    this.#done = 0;
  }

  /** The next piece of at least one byte. */
  #nextWithBytes(): Piece | undefined {
    while (this.#at < this.#lines.length && !this.#isOver) {
      const found = this.#lines.indexOf(NEWLINE, this.#at);
      const end = found < 0 ? this.#lines.length : found;
      const piece = this.#pieceOf(this.#lines.toString('utf8', this.#at, end));
      this.#at = end + 1;
      if (piece !== undefined && piece.sizeBytes > 0) return piece;
    }
    return undefined;
  }

  #pieceOf(line: string): Piece | undefined {
    let json: unknown;
    try {
      json = JSON.parse(line);
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
    const { type, name, name_raw: raw, size = 0, payload } = (json ?? {}) as Record<string, unknown>;
    if (type === SEGMENT && typeof payload === 'string') {
      const segment = Buffer.from(payload, 'base64');
      return { segment, sizeBytes: segment.length };
    }
    const isFile = type === FILE && Number.isSafeInteger(size) && (size as number) >= 0;
    if (!isFile) this.#wrong(`a line of it is not understood: ${shown(line)}`);
    if (typeof name === 'string') this.#names.push(name);
    else if (typeof raw === 'string') this.#names.push(Buffer.from(raw, 'base64').toString('utf8'));
    else this.#names.push('');
    return isFile
      ? { sizeBytes: size as number, ...(typeof payload === 'string' ? { crc: payload } : {}) }
      : undefined;
  }

  #wrong(message: string): void {
    if (!this.#isOver) this.#found(message);
    this.#isOver = true;
  }
}

function shown(text: string | undefined): string {
  return text === undefined ? 'nothing' : JSON.stringify(text.slice(0, 200));
}
