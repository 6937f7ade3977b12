import type { Readable } from 'node:stream';
import type { Digest } from '@sepia/base/digest';
import { CodedError, type ErrorCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { wholeBody } from '@sepia/http/bodies/whole-body';
import { MAX_MANIFEST_BYTES } from '@sepia/oci/manifest';
import { flowing } from './bodies/flowing.ts';
import { type Answer, down, type Method } from './exchange.ts';

/** One request to a registry that is written to. */
export interface Call {
  readonly method: Method;
  readonly url: URL;
  readonly repository: string;
  /** Further repository whose content is mounted. */
  readonly from?: string | undefined;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: (() => Uint8Array | Readable) | undefined;
  readonly accept: readonly number[];
  /** Code of a 404. */
  readonly unknown: ErrorCode;
  readonly item?: string;
}

/** A blob to send. */
export interface OutgoingBlob {
  readonly repository: string;
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Its bytes from `start` to `end` (exclusive), a new stream at each call. */
  readonly open: (start: number, end: number) => Readable;
}

/** What the token of a request must allow. */
export function scopeOf(call: Call): string {
  const action = call.method === 'DELETE' ? 'delete' : 'pull,push';
  const own = `repository:${call.repository}:${action}`;
  return call.from === undefined ? own : `${own} repository:${call.from}:pull`;
}

/** The bytes of a manifest or list from `host`. @throws `UPSTREAM_LIES` if they are too many, `UPSTREAM_DOWN` */
export async function documentOf(answer: Answer, host: string, signal: AbortSignal): Promise<Buffer> {
  const tooLarge = (): CodedError =>
    new CodedError('UPSTREAM_LIES', { message: `an answer of ${host} is larger than it may be` });
  try {
    return await wholeBody(flowing(host, answer.body), MAX_MANIFEST_BYTES, tooLarge);
  } catch (error) {
    throwIfBug(error);
    signal.throwIfAborted();
    throw error instanceof CodedError && error.code !== 'TIMEOUT' ? error : down(answer.url, error);
  }
}

/** Each upload session of a blob was lost at `host`: a later try may end otherwise. */
export function lostSessions(host: string, cause: unknown): CodedError {
  const detail = { host, reason: 'sessions lost' };
  return new CodedError('BACKEND_DOWN', { message: `${host} loses its upload sessions`, detail, cause });
}
