import { CodedError } from '@sepia/base/errors';
import type { OpenFile } from '@sepia/store/files/file-port';
import type { BlobStream } from '@sepia/upstream/queries';

const CHUNK_BYTES = 256 * 1024;

interface FileStreamDeps {
  readonly file: OpenFile;
  /** Runs one call of the system, with its deadline. */
  readonly call: <T>(work: () => Promise<T>) => Promise<T>;
  /** Closes the file, when a thread is free. */
  readonly letGo: () => void;
  readonly place: string;
  readonly digest: string;
}

/** Bytes `start` to `end` (exclusive) of a file; closes it at its end. @throws `BACKEND_DOWN` when it was cut meanwhile */
export class FileStream implements BlobStream {
  readonly #deps: FileStreamDeps;
  readonly #start: number;
  readonly #end: number;
  #isLetGo = false;

  constructor(deps: FileStreamDeps, start: number, end: number) {
    this.#deps = deps;
    this.#start = start;
    this.#end = end;
  }

  [Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, undefined> {
    return this.#chunks(false);
  }

  lent(): AsyncGenerator<Uint8Array, void, undefined> {
    return this.#chunks(true);
  }

  async *#chunks(lend: boolean): AsyncGenerator<Uint8Array, void, undefined> {
    const { file, call, place, digest } = this.#deps;
    let buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    try {
      for (let at = this.#start; at < this.#end; ) {
        const into = buffer.subarray(0, Math.min(CHUNK_BYTES, this.#end - at));
        const offset = at;
        const found = await call(() => file.read(into, offset));
        if (found < into.length)
          throw new CodedError('BACKEND_DOWN', {
            message: `a file in ${place} ends before its size`,
            detail: { digest, place, expected: this.#end, found: at + found },
          });
        at += found;
        yield into;
        if (!lend) buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
      }
    } finally {
      this.destroy();
    }
  }

  destroy(): void {
    if (this.#isLetGo) return;
    this.#isLetGo = true;
    this.#deps.letGo();
  }
}
