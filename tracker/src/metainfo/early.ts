import { LinkedAbort } from '@sepia/base/async/linked-abort';
import { CodedError } from '@sepia/base/errors';
import { noteBug } from '@sepia/base/failure';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import type { Origins, Wish } from './origins.ts';

/** Metainfo that was asked for before it was known who has the blob. Drop it. */
export interface EarlyMetainfo {
  readonly originId: string;
  /** What it says; `mostMs`: its silence counts as an end after this, where others may be asked. */
  told(mostMs?: number): Promise<Metainfo>;
  /** It is not needed, or was taken. Idempotent. */
  drop(): void;
}

/**
 * Asks for the metainfo of a blob beside the question where it is: at its first owner, who has it or is the one to fetch it in
 * nearly all cases. That origin asks the others what they have before it fetches, whoever sends it. Undefined where there is none.
 */
export function askEarly(
  origins: Pick<Origins, 'candidates' | 'metainfo'>,
  name: BlobName,
  wish: Wish,
  signal: AbortSignal,
): EarlyMetainfo | undefined {
  const [originId] = origins.candidates(name.digest).ids;
  if (originId === undefined) return undefined;
  const over = new LinkedAbort(signal);
  const told = origins.metainfo(originId, name, true, wish, over.signal);
  told.catch((error: unknown) => void noteBug(error));
  const drop = (): void => over.abort(new CodedError('TIMEOUT', { message: 'nobody waits' }));
  const within = async (mostMs?: number): Promise<Metainfo> => {
    const silent = (): void => over.abort(new CodedError('PEER_HTTP', { message: `${originId} is silent` }));
    const timer = mostMs === undefined ? undefined : setTimeout(silent, mostMs);
    try {
      return await told;
    } finally {
      clearTimeout(timer);
    }
  };
  return { originId, told: within, drop };
}
