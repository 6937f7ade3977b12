import type { Readable } from 'node:stream';
import type { ErrorCode } from '@sepia/base/errors';
import type { Method } from './exchange.ts';

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

/** What the token of a request must allow. */
export function scopeOf(call: Call): string {
  const action = call.method === 'DELETE' ? 'delete' : 'pull,push';
  const own = `repository:${call.repository}:${action}`;
  return call.from === undefined ? own : `${own} repository:${call.from}:pull`;
}
