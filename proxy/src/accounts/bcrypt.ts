import { createRequire } from 'node:module';
import { CodedError } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';

type Bcrypt = Pick<typeof import('@node-rs/bcrypt'), 'hash' | 'parseOptions' | 'verify'>;

let loaded: Bcrypt | undefined;

/**
 * The native library, loaded by the first that needs it: a proxy without accounts runs where it does not load.
 * @throws {CodedError} `START_FAILED` that says why
 */
export function bcrypt(): Bcrypt {
  try {
    loaded ??= createRequire(import.meta.url)('@node-rs/bcrypt') as Bcrypt;
    return loaded;
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('START_FAILED', {
      message: `accounts-file: bcrypt does not load on this machine (${String((cause as Error).message).split('\n')[0]}); it needs glibc or musl with librt and libgcc`,
      cause,
    });
  }
}
