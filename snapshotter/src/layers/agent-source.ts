import { askInTurn } from '@sepia/base/async/ask-many';
import { CodedError, isCoded, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import { delay } from '@sepia/base/lifecycle';
import { AGENT_OF_NODE } from '@sepia/cluster/api/lazy-offers';
import { hashOf, signCall } from '@sepia/http/sign';
import type { Dispatcher } from '@sepia/http/sockets';
import { FIRST_READ_PAUSE_MS, LONGEST_READ_PAUSE_MS, SIGN_MS, SILENCE_MS } from '../deadlines.ts';
import { inTurn, type LayerHome } from './core/homes.ts';
import { Outages } from './core/outages.ts';
import { type BlobRange, SilentRanges } from './core/silent-ranges.ts';

/** A layer as the node's agent serves it. */
export interface LayerName extends LayerHome {
  readonly digest: string;
  /** Repositories to ask when the layer's own one refuses it. */
  readonly others?: readonly LayerHome[];
}

export interface AgentSourceOptions {
  /** The agent's registry endpoint. */
  readonly url: string;
  /** A read that has no success for this long fails. */
  readonly deadlineMs: number;
  /** Secret of the node: reads that carry it need no account of the upstream. */
  readonly secret?: Uint8Array | undefined;
}

/** More bytes of a range came: the first `length` of these are there. */
export type Arrived = (bytes: Buffer, length: number) => void;

/** Layers of which it is remembered who served them last. */
const MAX_SERVED = 1_000;
const FINAL: readonly string[] = ['AUTH_DENIED', 'RANGE_INVALID'];
/** Codes after which another repository that has the layer is asked. */
const PLACE_REFUSED: readonly string[] = ['AUTH_DENIED', 'NO_PEERS', 'BLOB_UNKNOWN'];
/** Codes by which the agent says that it has nothing of a layer. */
const REFUSED: readonly string[] = ['NO_PEERS', 'BLOB_UNKNOWN'];

/** Reads ranges of layers from the node's own agent: by repository and digest, so that only a link opens a blob. */
export class AgentSource {
  readonly #dispatcher: Dispatcher;
  readonly #options: AgentSourceOptions;
  readonly #silent = new SilentRanges();
  readonly #outages = new Outages();
  /** Of layers with several repositories: the one that served it last. */
  readonly #servedBy = new LatestMap<string, LayerHome>(MAX_SERVED);

  constructor(deps: { readonly dispatcher: Dispatcher }, options: AgentSourceOptions) {
    this.#dispatcher = deps.dispatcher;
    this.#options = options;
  }

  /**
   * The bytes `[start, end)` of a layer, by the first of its repositories that serves them. An agent that is gone or has no source is asked again until the deadline; where
   * the same bytes were waited for in vain a moment ago, only one that gives a sign of life; where it refused the layer for a
   * whole deadline, it is asked once.
   * @param arrived told how many of them are in the buffer by now; where they had to be asked for again, of another buffer
   * @throws {CodedError} `TIMEOUT` with the last failure as cause, `AUTH_DENIED`, or the signal's reason
   */
  async read(
    layer: LayerName,
    start: number,
    end: number,
    signal: AbortSignal,
    arrived: Arrived = () => undefined,
    final = FINAL,
  ): Promise<Buffer> {
    const range = { digest: layer.digest, start, end };
    if (this.#silent.has(range, performance.now()) && !(await this.#answers(signal)))
      throw this.#silence(range);
    const deadline = AbortSignal.any([signal, AbortSignal.timeout(this.#options.deadlineMs)]);
    for (let pauseMs = FIRST_READ_PAUSE_MS; ; pauseMs = Math.min(2 * pauseMs, LONGEST_READ_PAUSE_MS)) {
      let failure: unknown;
      const beganMs = performance.now();
      try {
        const bytes = await this.#anywhere(layer, final, (name) =>
          this.#once(name, start, end, deadline, arrived),
        );
        this.#outages.served(layer.digest);
        return bytes;
      } catch (error) {
        if (!isOutside(error)) throw error;
        if (isCoded(error) && final.includes(error.code)) throw error;
        if (this.#isGone(range, error, beganMs)) throw this.#silence(range, error);
        failure = error;
      }
      try {
        await delay(pauseMs, deadline);
      } catch (error) {
        throwIfBug(error);
        signal.throwIfAborted();
        throw this.#silence(range, failure);
      }
    }
  }

  /** As {@link read}; a layer that is not in its repository is not waited for. @throws {CodedError} `BLOB_UNKNOWN` too */
  async readIfThere(layer: LayerName, start: number, end: number, signal: AbortSignal): Promise<Buffer> {
    return await this.read(layer, start, end, signal, undefined, [...FINAL, 'BLOB_UNKNOWN']);
  }

  /** Asks by one repository after the other. @throws {CodedError} a refusal that may pass, where there is one */
  async #anywhere(
    { digest, others = [], ...own }: LayerName,
    final: readonly string[],
    ask: (name: LayerName) => Promise<Buffer>,
  ): Promise<Buffer> {
    let mayPass: unknown;
    const isFinal = (error: unknown): boolean => {
      if (!isCoded(error) || !PLACE_REFUSED.includes(error.code)) return true;
      if (!final.includes(error.code)) mayPass = error;
      return false;
    };
    const askAt = async (home: LayerHome): Promise<Buffer> => {
      const bytes = await ask({ ...home, digest });
      if (others.length > 0) this.#servedBy.set(digest, home);
      return bytes;
    };
    try {
      return await askInTurn(inTurn([own, ...others], this.#servedBy.get(digest)), askAt, { isFinal });
    } catch (error) {
      throwIfBug(error);
      throw isFinal(error) ? error : (mayPass ?? error);
    }
  }

  /** True if the agent answers, but has had nothing of the layer for a whole deadline. */
  #isGone({ digest }: BlobRange, error: unknown, beganMs: number): boolean {
    if (!isCoded(error) || !REFUSED.includes(error.code)) return false;
    return this.#outages.refused(digest, beganMs, performance.now()) >= this.#options.deadlineMs;
  }

  /** Nothing came of a range: it is remembered. */
  #silence(range: BlobRange, cause?: unknown): CodedError {
    this.#silent.note(range, performance.now());
    return new CodedError('TIMEOUT', {
      message: `the agent gave no bytes of ${range.digest} for ${this.#options.deadlineMs} ms`,
      detail: { ...range },
      cause,
    });
  }

  /** Whether the agent answers at all; then nothing is remembered any longer. */
  async #answers(signal: AbortSignal): Promise<boolean> {
    const soon = AbortSignal.any([signal, AbortSignal.timeout(SIGN_MS)]);
    try {
      const asked = { origin: this.#options.url, path: '/v2/', method: 'GET', signal: soon } as const;
      await (await this.#dispatcher.request(asked)).body.dump({ limit: 64 * 1024 });
    } catch (error) {
      if (!isOutside(error)) throw error;
      signal.throwIfAborted();
      return false;
    }
    this.#silent.clear();
    return true;
  }

  async #once(
    layer: LayerName,
    start: number,
    end: number,
    signal: AbortSignal,
    arrived: Arrived,
  ): Promise<Buffer> {
    const path = `/v2/${layer.repository}/blobs/${layer.digest}?ns=${encodeURIComponent(layer.host)}`;
    const asked = { range: `bytes=${start}-${end - 1}`, 'accept-encoding': 'identity' };
    const { statusCode, headers, body } = await this.#dispatcher.request({
      origin: this.#options.url,
      path,
      method: 'GET',
      headers: { ...asked, ...this.#signature(path, asked) },
      headersTimeout: SILENCE_MS,
      bodyTimeout: SILENCE_MS,
      signal,
    });
    const isPart =
      statusCode === 206 && headers['content-range']?.toString().startsWith(`bytes ${start}-`) === true;
    if (!isPart && statusCode !== 200) {
      await body.dump({ limit: 64 * 1024 });
      throw refusalOf(statusCode, layer);
    }
    return await take(body, isPart ? 0 : start, end - start, arrived);
  }

  #signature(path: string, headers: Readonly<Record<string, string>>): { authorization?: string } {
    const { secret } = this.#options;
    if (secret === undefined) return {};
    const call = { method: 'GET', path, headers, body: hashOf('') };
    const signer = { clusterKey: secret, id: 'snapshotter' };
    return { authorization: signCall(signer, AGENT_OF_NODE, call, Date.now()) };
  }
}

/** Takes `length` bytes after `skip`; the rest of the body is not read. */
async function take(
  body: AsyncIterable<Uint8Array>,
  skip: number,
  length: number,
  arrived: Arrived,
): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  let at = -skip;
  for await (const chunk of body) {
    const from = Math.max(0, -at);
    const part = chunk.subarray(from, from + length - Math.max(0, at));
    if (at + chunk.length > 0) bytes.set(part, Math.max(0, at));
    at += chunk.length;
    if (at >= length) return bytes;
    if (at > 0) arrived(bytes, at);
  }
  throw new CodedError('SIZE_MISMATCH', { detail: { expected: length, found: Math.max(0, at) } });
}

const REFUSALS: Readonly<Record<number, 'AUTH_DENIED' | 'RANGE_INVALID' | 'BLOB_UNKNOWN'>> = {
  401: 'AUTH_DENIED',
  403: 'AUTH_DENIED',
  404: 'BLOB_UNKNOWN',
  416: 'RANGE_INVALID',
};

function refusalOf(status: number, layer: LayerName): CodedError {
  return new CodedError(REFUSALS[status] ?? 'NO_PEERS', {
    message: `the agent answers ${status} for ${layer.repository}@${layer.digest}`,
    detail: { status, ...layer },
  });
}

/** Refusals and silence of the agent; anything else is a bug. */
function isOutside(error: unknown): boolean {
  const name = (error as { name?: string }).name ?? '';
  return (
    isCoded(error) ||
    name === 'AbortError' ||
    name === 'TimeoutError' ||
    /^(?:E|UND_ERR)/.test(systemCode(error) ?? '')
  );
}
