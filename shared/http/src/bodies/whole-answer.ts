/** An answer whose body is in memory. */
export interface WholeAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly bytes: Buffer;
}

/** An answer that began and did not end: `cause` says why. */
export interface CutAnswer extends Omit<WholeAnswer, 'bytes'> {
  readonly cause: unknown;
}

/** Gives up the call that it came with. */
interface Controller {
  abort(reason: Error): void;
}

/** What tells of one call to whoever made it. */
interface Told {
  onRequestStart(controller: Controller): void;
  onResponseStart(controller: Controller, status: number, headers: WholeAnswer['headers']): void;
  onResponseData(controller: Controller, chunk: Buffer): void;
  onResponseEnd(): void;
  onResponseError(controller: Controller, cause: Error): void;
}

/** What sends a call. */
interface Sockets<Options> {
  dispatch(options: Options, told: Told): boolean;
}

interface WholeCall {
  readonly signal: AbortSignal | undefined;
  /** Most bytes of a body that are taken, by its status. */
  readonly limitBytes: (status: number) => number;
  /** Why a longer one is given up. */
  readonly tooLarge: () => Error;
  /** Sees the head of the answer as soon as it is there; what it throws ends the call. */
  readonly onHead: (headers: WholeAnswer['headers']) => void;
}

/**
 * Sends a request and gathers its answer. A stream for each small answer, with all that belongs to one, costs more than the
 * answer: this has none. Rejects if no answer came, with the reason of `signal` once that is aborted.
 */
export async function askWhole<Options>(
  dispatcher: Sockets<Options>,
  options: Options,
  call: WholeCall,
): Promise<WholeAnswer | CutAnswer> {
  return await new Promise((resolve, reject) => {
    const { signal } = call;
    if (signal?.aborted === true) return reject(signal.reason);
    const gathering = new Gathering(call, resolve, reject);
    dispatcher.dispatch(options, gathering);
  });
}

/** One call under way, as the HTTP client tells of it. */
class Gathering implements Told {
  readonly #call: WholeCall;
  readonly #resolve: (answer: WholeAnswer | CutAnswer) => void;
  readonly #reject: (cause: unknown) => void;
  #controller: Controller | undefined;
  #head: Omit<WholeAnswer, 'bytes'> | undefined;
  #chunks: Buffer[] = [];
  #sizeBytes = 0;
  #limitBytes = 0;

  constructor(
    call: WholeCall,
    resolve: (answer: WholeAnswer | CutAnswer) => void,
    reject: (cause: unknown) => void,
  ) {
    this.#call = call;
    this.#resolve = resolve;
    this.#reject = reject;
    call.signal?.addEventListener('abort', this.#abort);
  }

  onRequestStart(controller: Controller): void {
    this.#controller = controller;
    if (this.#call.signal?.aborted === true) this.#abort();
  }

  onResponseStart(_controller: Controller, status: number, headers: WholeAnswer['headers']): void {
    if (status < 200) return;
    this.#head = { status, headers };
    this.#limitBytes = this.#call.limitBytes(status);
    this.#call.onHead(headers);
  }

  onResponseData(controller: Controller, chunk: Buffer): void {
    this.#sizeBytes += chunk.length;
    if (this.#sizeBytes > this.#limitBytes) controller.abort(this.#call.tooLarge());
    else this.#chunks.push(chunk);
  }

  onResponseEnd(): void {
    this.#end();
    const [first] = this.#chunks;
    const bytes = this.#chunks.length === 1 ? first! : Buffer.concat(this.#chunks, this.#sizeBytes);
    this.#resolve({ ...this.#head!, bytes });
  }

  onResponseError(_controller: Controller, cause: Error): void {
    this.#end();
    if (this.#head === undefined) this.#reject(cause);
    else this.#resolve({ ...this.#head, cause });
  }

  readonly #abort = (): void => {
    const reason: unknown = this.#call.signal?.reason;
    if (this.#controller !== undefined) this.#controller.abort(reason as Error);
    else this.#reject(reason);
  };

  #end(): void {
    this.#call.signal?.removeEventListener('abort', this.#abort);
  }
}
