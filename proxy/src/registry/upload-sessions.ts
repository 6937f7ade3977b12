import { firstAnswer } from '@sepia/base/async/ask-many';
import type { Digest } from '@sepia/base/digest';
import { CodedError, isCoded, takesNoWrites } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { ResolvedName } from '@sepia/base/names/upstream-name';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { isDefinite, isSilence } from '@sepia/cluster/core/answers';
import type { ByteRange } from '@sepia/oci/range';
import type { FlowLimits } from '../bodies/core/flow.ts';
import { type RequestBody, watchFlow } from '../bodies/request-body.ts';
import type { OriginRequest, Origins } from '../cluster/origins.ts';
import {
  ALIVE_MS,
  GATHER_MS,
  HEDGE_MS,
  STAGER_SILENT_MS,
  UPLOAD_CALL_MS,
  UPLOAD_END_MS,
} from '../deadlines.ts';
import type { UploadId } from './core/upload.ts';

/** Room that a stager of a blob of unknown length should have. */
const ROOM_BYTES = 10 * 1024 ** 3;
const MAX_ANSWER_BYTES = 64 * 1024;
/** A body up to this is sent at once when all of it is here soon: a stream of its own, at both ends, costs more than what it carries. */
const GATHERED_BYTES = 64 * 1024;

interface UploadsDeps {
  readonly origins: Origins;
  /** A number in [0, 1). */
  readonly random: () => number;
}

/** Where a push goes, and which client pushes. */
export interface PushTarget extends ResolvedName {
  /** Who pushes, as origins count places: see `keyOf`. */
  readonly client: string;
}

/** A chunk or closing request's body. `contentLength` undefined = chunked transfer. */
export interface UploadBody {
  readonly stream: RequestBody;
  readonly contentLength: number | undefined;
  /** Which bytes of the upload it says it is. */
  readonly range?: ByteRange;
}

/** Upload sessions on their stagers. The proxy keeps nothing about them: the id says where they live. */
export class Uploads {
  readonly #origins: Origins;
  readonly #random: () => number;
  readonly #limits: FlowLimits;

  constructor(deps: UploadsDeps, options: { readonly idleMs: number }) {
    this.#origins = deps.origins;
    this.#random = deps.random;
    this.#limits = { originSilentMs: STAGER_SILENT_MS, idleMs: options.idleMs, answerMs: UPLOAD_END_MS };
  }

  /** Opens a session on any healthy origin, on one with much room where there is one. @throws what the origins said */
  async begin(target: PushTarget, signal: AbortSignal): Promise<string> {
    return await roomy(async (room, noteFull) => await this.#beginWith(target, room, noteFull, signal));
  }

  async #beginWith(
    target: PushTarget,
    room: number,
    noteFull: NoteFull,
    signal: AbortSignal,
  ): Promise<string> {
    const ask = async (id: string, abort: AbortSignal): Promise<string> => {
      const call = to(ORIGIN_BLOBS.uploadBegin, { ...target, room });
      const { uploadId } = await this.#origins
        .quick<{ uploadId?: unknown }>(id, UPLOAD_CALL_MS, call, AbortSignal.any([abort, signal]))
        .catch(noteFull);
      if (typeof uploadId !== 'string')
        throw new CodedError('PEER_HTTP', { message: `origin ${id} answered without an upload id` });
      return uploadId;
    };
    const order = this.#origins.health.order(this.#shuffled());
    return await firstAnswer(order, ask, { hedgeAfterMs: HEDGE_MS, signal, isFinal: isDefinite });
  }

  /** Links a blob of another repository. False when it is not there or nobody could tell. */
  async mount(target: ResolvedName, from: string, digest: Digest, signal: AbortSignal): Promise<boolean> {
    const ask = async (id: string, abort: AbortSignal): Promise<true> => {
      const call = to(ORIGIN_BLOBS.mount, { ...target, from, digest });
      await this.#origins.quick(id, UPLOAD_CALL_MS, call, AbortSignal.any([abort, signal]));
      return true;
    };
    try {
      const order = this.#origins.tries(digest);
      return await firstAnswer(order, ask, { hedgeAfterMs: HEDGE_MS, signal, isFinal: isDefinite });
    } catch (error) {
      if (isCoded(error)) return false;
      throw error;
    }
  }

  /** Bytes that the session holds. @throws {CodedError} `UPLOAD_UNKNOWN` */
  async offset(id: UploadId, target: ResolvedName, signal: AbortSignal): Promise<number> {
    return offsetOf(await this.#short(id, to(ORIGIN_BLOBS.uploadStatus, { ...target, id: id.text }), signal));
  }

  /** @throws {CodedError} `UPLOAD_UNKNOWN` */
  async cancel(id: UploadId, target: ResolvedName, signal: AbortSignal): Promise<void> {
    await this.#short(id, to(ORIGIN_BLOBS.uploadCancel, { ...target, id: id.text }), signal);
  }

  /** Appends a chunk and returns the bytes then held. @throws `UPLOAD_UNKNOWN`, `UPLOAD_OUT_OF_ORDER`, `TIMEOUT` */
  async append(id: UploadId, target: ResolvedName, body: UploadBody, signal: AbortSignal): Promise<number> {
    const call = to(ORIGIN_BLOBS.uploadAppend, { ...target, id: id.text });
    const answer = await this.#session(id, () => this.#send(id.stagerId, call, body, signal));
    return offsetOf(answer.length === 0 ? {} : (JSON.parse(answer.toString('utf8')) as object));
  }

  /** Sends the rest (maybe nothing) and closes the session: done when the blob is durable. */
  async finish(
    id: UploadId,
    target: ResolvedName,
    digest: Digest,
    body: UploadBody,
    signal: AbortSignal,
  ): Promise<void> {
    const call = to(ORIGIN_BLOBS.uploadFinish, { ...target, id: id.text, digest });
    await this.#session(id, () => this.#send(id.stagerId, call, body, signal));
  }

  /**
   * Stores a whole blob through one of its owners: done when it is durable. `session`: the one that the body closes; it ends
   * with an owner that goes once it has begun to take the body.
   */
  async putWhole(
    target: PushTarget,
    digest: Digest,
    body: UploadBody,
    signal: AbortSignal,
    session?: UploadId,
  ): Promise<void> {
    const { contentLength } = body;
    const owner =
      contentLength === undefined
        ? await roomy(async (room, noteFull) => await this.#liveOwner(target, digest, room, noteFull, signal))
        : await this.#liveOwner(target, digest, contentLength, rethrow, signal);
    const call = to(ORIGIN_BLOBS.blobPut, { ...target, digest });
    const send = async (): Promise<Buffer> => await this.#send(owner, call, body, signal);
    await (session === undefined ? send() : orLost(session, send));
  }

  /** The first owner or stand-in that answers now and has room: a body cannot be sent twice. @throws `DISK_FULL`, `OVERLOADED` */
  async #liveOwner(
    { client }: PushTarget,
    digest: Digest,
    bytes: number,
    noteFull: NoteFull,
    signal: AbortSignal,
  ): Promise<string> {
    const ask = async (id: string, abort: AbortSignal): Promise<string> => {
      await this.#origins.askRoom(id, { bytes, client }, AbortSignal.any([abort, signal])).catch(noteFull);
      return id;
    };
    const order = this.#origins.tries(digest);
    return await firstAnswer(order, ask, { hedgeAfterMs: HEDGE_MS / 2, signal });
  }

  async #send(
    originId: string,
    target: Pick<OriginRequest, 'method' | 'path'>,
    body: UploadBody,
    signal: AbortSignal,
  ): Promise<Buffer> {
    const abort = new AbortController();
    const { stream, contentLength, range } = body;
    // Only what the client did: what befell the call, which ends the stream as well, the call itself tells.
    stream.once('error', (error) => {
      if (isCoded(error)) abort.abort(error);
    });
    const endWatch = watchFlow(stream, this.#limits, () => this.#origins.alive(originId, ALIVE_MS), abort);
    const either = AbortSignal.any([abort.signal, signal]);
    try {
      if (stream.errored !== null) throw stream.errored;
      // A chunked body without a byte would be sent, and signed, as another length than it has.
      const isEmpty =
        contentLength === 0 || (contentLength === undefined && !(await stream.hasBytes(either)));
      const isSmall = !isEmpty && contentLength !== undefined && contentLength <= GATHERED_BYTES;
      const whole = isSmall ? await stream.gathered(GATHER_MS) : undefined;
      if (stream.errored !== null) throw stream.errored;
      const call: OriginRequest = {
        ...target,
        headers: {
          'content-type': 'application/octet-stream',
          ...(isEmpty || contentLength === undefined ? {} : { 'content-length': String(contentLength) }),
          ...(range === undefined ? {} : { 'content-range': `${range.start}-${range.end}` }),
        },
        ...(isEmpty ? {} : { body: whole ?? stream }),
        lasts: 'body',
        headersTimeoutMs: 0,
        signal: either,
      };
      return (await this.#origins.bytes(originId, call, MAX_ANSWER_BYTES)).bytes;
    } finally {
      endWatch();
      stream.destroy();
    }
  }

  /** Runs a call to a session's stager; a stager that is gone takes the session with it. */
  async #session<T>(id: UploadId, run: () => Promise<T>): Promise<T> {
    if (!this.#origins.has(id.stagerId)) throw lost(id);
    return await orLost(id, run);
  }

  async #short(
    id: UploadId,
    call: Pick<OriginRequest, 'method' | 'path'>,
    signal: AbortSignal,
  ): Promise<object> {
    return await this.#session(id, () =>
      this.#origins.quick<object>(id.stagerId, STAGER_SILENT_MS, call, signal),
    );
  }

  #shuffled(): string[] {
    const ids = this.#origins.ids;
    for (let last = ids.length - 1; last > 0; last--) {
      const other = Math.floor(this.#random() * (last + 1));
      [ids[last], ids[other]] = [ids[other]!, ids[last]!];
    }
    return ids;
  }
}

function rethrow(error: unknown): never {
  throw error;
}

/** Notes that an origin has no room. */
type NoteFull = (error: unknown) => never;

/** Asks for much room first, then for any: how long the blob is nobody knows yet. */
async function roomy(ask: (roomBytes: number, noteFull: NoteFull) => Promise<string>): Promise<string> {
  let lacking = false;
  const noteFull = (error: unknown): never => {
    lacking ||= takesNoWrites(error);
    throw error;
  };
  try {
    return await ask(ROOM_BYTES, noteFull);
  } catch (error) {
    throwIfBug(error);
    if (!lacking || isDefinite(error)) throw error;
    return await ask(0, noteFull);
  }
}

function offsetOf(answer: object): number {
  const { offset } = answer as { offset?: unknown };
  if (typeof offset === 'number' && Number.isSafeInteger(offset) && offset >= 0) return offset;
  throw new CodedError('PEER_HTTP', {
    message: 'origin answered without an offset',
    detail: { status: 200 },
  });
}

/** Runs a call that takes a session with it when its origin is gone. */
async function orLost<T>(id: UploadId, run: () => Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    if (isSilence(error)) throw lost(id, error);
    throw error;
  }
}

function lost(id: UploadId, cause?: unknown): CodedError {
  return new CodedError('UPLOAD_UNKNOWN', {
    detail: { uploadId: id.text },
    ...(cause === undefined ? {} : { cause }),
  });
}
