import { askAll, type Said } from '@sepia/base/async/ask-many';
import { CodedError } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import { isOutOfFiles } from '@sepia/base/system/open-files';
import type { Where } from '@sepia/cluster/api/blob-answers';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { allToldBy, judgeKnowledge, toldBy, type Whereabouts } from '@sepia/cluster/core/where';
import type { Origins } from '../cluster/origins.ts';
import { WHERE_AGAIN_MS, WHERE_GRACE_MS, WHERE_MS } from '../deadlines.ts';
import { chooseSource, type SourcePlan } from './core/choose-source.ts';

/**
 * Asks owners and stand-ins at once what they have of a blob and says whom to take it from. Does not wait for
 * silent ones longer than they can matter. @throws {CodedError} `NO_PEERS` when no origin answers, `MEMBER_BUSY` where none could be asked for want of sockets
 */
export async function findSource(
  origins: Origins,
  name: BlobName,
  signal: AbortSignal,
  graceMs = WHERE_GRACE_MS,
): Promise<SourcePlan> {
  let own: unknown;
  for (const timeoutMs of [WHERE_MS, WHERE_AGAIN_MS]) {
    const said = await askCandidates(origins, name, timeoutMs, graceMs, signal);
    const plan = chooseSource(allToldBy(said), origins.placement(name.digest).owners);
    if (plan !== undefined) return plan;
    if (signal.aborted) throw signal.reason;
    own ??= said.flatMap((one) => (one.type === 'answer' ? [] : [one.error])).find(isOutOfFiles);
  }
  if (own !== undefined) throw own;
  throw new CodedError('NO_PEERS', {
    message: 'no origin that could hold this blob answers',
    detail: { digest: name.digest },
  });
}

async function askCandidates(
  origins: Origins,
  name: BlobName,
  timeoutMs: number,
  graceMs: number,
  signal: AbortSignal,
): Promise<Said<string, Whereabouts>[]> {
  const { candidates, writeQuorum } = origins.placement(name.digest);
  const isEnough = (said: readonly Said<string, Whereabouts>[]): boolean | number => {
    const waitedFor = candidates.filter((id) => !said.some(({ by }) => by === id));
    const known = judgeKnowledge(
      allToldBy(said),
      waitedFor,
      (id) => origins.health.isSuspect(id),
      writeQuorum,
    );
    return known === 'all' || (known === 'holder' && graceMs);
  };
  const ask = async (id: string, over: AbortSignal): Promise<Whereabouts> =>
    await askOne(origins, id, name, timeoutMs, AbortSignal.any([signal, over]));
  return await askAll(candidates, ask, { isEnough });
}

async function askOne(
  origins: Origins,
  originId: string,
  name: BlobName,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<Whereabouts> {
  const answer = await origins.quick<Where>(originId, timeoutMs, to(ORIGIN_BLOBS.where, name), signal);
  return toldBy(originId, answer);
}
