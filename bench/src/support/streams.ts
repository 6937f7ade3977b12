import { readFileSync } from 'node:fs';
import { throwIfBug } from '@sepia/base/failure';

/** How often streams are looked at, in ms: silences are known to within this. */
const EVERY_MS = 20;

/** How one stream came, in seconds from its request. */
export interface StreamShape {
  readonly halfAtSeconds: number;
  readonly lastAtSeconds: number;
  /** Longest time without a byte, the wait for the first one counted. */
  readonly silenceSeconds: number;
  /** The same after the first byte. */
  readonly laterSilenceSeconds: number;
}

interface Stream {
  readonly pid: number;
  readonly sizeBytes: number;
  readonly fromMs: number;
  lastMs: number;
  bytes: number;
  halfMs: number | undefined;
  silenceMs: number;
  laterSilenceMs: number;
}

/**
 * Bytes over time of readers that write what they get (to /dev/null): the kernel's count of bytes that each process wrote
 * (`wchar` of `/proc/PID/io`), so that nothing is added to the readers themselves.
 */
export class StreamWatch {
  readonly #streams: Stream[] = [];
  readonly #timer = setInterval(() => this.#look(), EVERY_MS);

  /** From now on `pid` is watched; it will get `sizeBytes`. */
  add(pid: number, sizeBytes: number): void {
    const fromMs = performance.now();
    const none = { halfMs: undefined, bytes: 0, silenceMs: 0, laterSilenceMs: 0 };
    this.#streams.push({ pid, sizeBytes, fromMs, lastMs: fromMs, ...none });
  }

  /** Idempotent. */
  end(): void {
    clearInterval(this.#timer);
  }

  /** Ends the watch; in the order of `add`. @throws {Error} for a stream whose half was never seen */
  shapes(): StreamShape[] {
    this.end();
    return this.#streams.map((one) => {
      if (one.halfMs === undefined) throw new Error(`half of stream ${one.pid} was never seen`);
      return {
        halfAtSeconds: (one.halfMs - one.fromMs) / 1000,
        lastAtSeconds: (one.lastMs - one.fromMs) / 1000,
        silenceSeconds: one.silenceMs / 1000,
        laterSilenceSeconds: one.laterSilenceMs / 1000,
      };
    });
  }

  #look(): void {
    for (const stream of this.#streams) {
      const bytes = writtenBy(stream.pid);
      const nowMs = performance.now();
      if (bytes === undefined || bytes === stream.bytes) continue;
      const gapMs = nowMs - stream.lastMs;
      stream.silenceMs = Math.max(stream.silenceMs, gapMs);
      if (stream.bytes > 0) stream.laterSilenceMs = Math.max(stream.laterSilenceMs, gapMs);
      if (bytes >= stream.sizeBytes / 2) stream.halfMs ??= nowMs;
      stream.lastMs = nowMs;
      stream.bytes = bytes;
    }
  }
}

/** Undefined once the process is gone. */
function writtenBy(pid: number): number | undefined {
  try {
    return Number(/^wchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, 'utf8'))?.[1] ?? 0);
  } catch (error) {
    throwIfBug(error);
    return undefined;
  }
}
