import { inTurns } from '@sepia/base/async/in-turns';
import type { Digest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import type { RepositoryName } from '@sepia/base/names/repository';
import { REMOVAL_MS } from '../deadlines/own.ts';
import { childrenOf, closureOf, type ReadManifest } from '../fence/closure.ts';

/** Images that are read at once. */
const AT_ONCE = 16;

/**
 * Whether a manifest, or one below it, names `digest`: as config, layer or child. Foreign layers are not looked at.
 * @param roots manifests to look through, for at most 20 s
 * @throws `TIMEOUT` with how many are left, `QUORUM_LOST` when a manifest cannot be read now
 */
export async function isNamedBelow(
  read: ReadManifest,
  name: { readonly upstream: string; readonly repository: RepositoryName },
  roots: readonly Digest[],
  digest: Digest,
  nowMs: () => number = () => performance.now(),
): Promise<boolean> {
  const untilMs = nowMs() + REMOVAL_MS;
  const names = async (root: Digest): Promise<boolean> => {
    const below = await closureOf(read, name, await childrenOf(read, name, root));
    return below.some((one) => one.digest === digest);
  };
  let done = 0;
  for await (const some of inTurns(roots, AT_ONCE)) {
    if (nowMs() > untilMs) throw unfinished(done, roots.length);
    if ((await Promise.all(some.map(names))).includes(true)) return true;
    done += some.length;
  }
  return false;
}

function unfinished(done: number, all: number): CodedError {
  return new CodedError('TIMEOUT', {
    message: `${done} of ${all} images of immutable tags were looked through in time; nothing is deleted`,
    detail: { left: all - done },
  });
}
