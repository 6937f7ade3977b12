import { CodedError } from '@sepia/base/errors';
import { type ByteString, textOf } from './tar/byte-string.ts';

/** Refuses to index a layer; `path`: the entry that cannot be read by its offset. @throws {CodedError} `LAYER_NOT_LAZY` */
export function notLazy(reason: string, path: ByteString): never {
  throw new CodedError('LAYER_NOT_LAZY', { detail: { reason, path: textOf(path) } });
}
