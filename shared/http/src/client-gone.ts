import { CodedError } from '@sepia/base/errors';
import type { Context } from 'koa';

/**
 * Aborted once the answer's connection is closed: the client is gone, or has its answer. At once for a client that went
 * before anybody asked, while the request waited for something else: its close was told already, and is not told again.
 */
export function goneSignal({ res }: Pick<Context, 'res'>): AbortSignal {
  const gone = new AbortController();
  const onClose = (): void => gone.abort(new CodedError('TIMEOUT', { message: 'client is gone' }));
  if (res.destroyed) onClose();
  else res.once('close', onClose);
  return gone.signal;
}
