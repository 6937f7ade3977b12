/** Longest head of an interim answer that is waited for, in bytes. */
const MAX_HEAD_BYTES = 32 * 1024;
/** What every interim answer begins with, and no other one. */
const INTERIM = 'HTTP/1.1 1';

/**
 * Takes interim answers (1xx; RFC 9110, 15.2) out of what comes on a connection. Clients that did not ask for one have to
 * skip it: undici, which reads what is left, breaks off at `100 Continue`. Only what comes between a request and the head
 * of its answer is looked at, bodies are not.
 */
export class InterimAnswers {
  #awaitsHead = false;
  /** The beginning of what may be an interim answer. */
  #held: Buffer | undefined;

  /** A request is sent: the head of an answer comes next. */
  asked(): void {
    this.#awaitsHead = true;
  }

  /** What came, without interim answers; undefined where nothing is left, or it cannot be told yet. */
  rest(chunk: Buffer): Buffer | undefined {
    if (!this.#awaitsHead) return chunk;
    let bytes = this.#held === undefined ? chunk : Buffer.concat([this.#held, chunk]);
    this.#held = undefined;
    while (bytes.length > 0) {
      const end = endOfInterim(bytes);
      if (end === undefined) {
        this.#awaitsHead = false;
        return bytes;
      }
      if (end > bytes.length) {
        this.#held = bytes;
        return undefined;
      }
      bytes = bytes.subarray(end);
    }
    return undefined;
  }
}

/** Where the interim answer ends that `bytes` begin with: behind them where that is not here yet. Undefined: it is none. */
function endOfInterim(bytes: Buffer): number | undefined {
  if (!INTERIM.startsWith(bytes.toString('latin1', 0, INTERIM.length))) return undefined;
  const end = bytes.indexOf('\r\n\r\n');
  if (end !== -1) return end + 4;
  return bytes.length > MAX_HEAD_BYTES ? undefined : Number.POSITIVE_INFINITY;
}
