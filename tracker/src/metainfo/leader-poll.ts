import { LinkedAbort } from '@sepia/base/async/linked-abort';
import { ownPause } from '@sepia/base/async/own-wait';
import { CodedError } from '@sepia/base/errors';
import { readElsewhere } from '@sepia/base/failure';
import { pause } from '@sepia/base/lifecycle';
import type { BlobName } from '@sepia/base/names/blob-name';
import type { Whereabouts } from '@sepia/cluster/core/where';
import type { Metainfo } from '@sepia/metainfo/metainfo';
import { POLL_MS } from '../deadlines.ts';
import { graceMs, type LeaderWait, type PollWaits } from './core/leader-wait.ts';
import type { Origins, Wish } from './origins.ts';

interface Poll {
  readonly name: BlobName;
  readonly leader: string;
  readonly known: Metainfo;
  readonly wish: Wish;
}

/** What one poll told: news or none; or the leader is silent, and what the others have. */
export type Polled =
  | { readonly type: 'answer'; readonly news: Metainfo | undefined }
  | { readonly type: 'silent'; readonly answers: readonly Whereabouts[] };

/** One poll at the leader of a blob; where it is late, all that could have the blob are asked beside it. @throws what the poll fails with */
export async function pollLeader(
  deps: { readonly origins: Pick<Origins, 'poll' | 'where'>; readonly wait: LeaderWait },
  poll: Poll,
  signal: AbortSignal,
): Promise<Polled> {
  const over = new LinkedAbort(signal);
  const waits = deps.wait.next();
  try {
    const answer = askLeader(deps, poll, waits, over.signal);
    const silence = lookBeside(deps, poll, waits, over.signal);
    readElsewhere(answer);
    readElsewhere(silence);
    return await Promise.race([answer, silence]);
  } finally {
    over.abort(new CodedError('TIMEOUT', { message: 'the answer is known' }));
  }
}

async function askLeader(
  { origins, wait }: Parameters<typeof pollLeader>[0],
  { name, leader, known, wish }: Poll,
  { goneMs }: PollWaits,
  signal: AbortSignal,
): Promise<Polled> {
  const startedMs = performance.now();
  const news = await origins.poll(leader, name, known, wish, goneMs, signal);
  wait.answered(performance.now() - startedMs, news !== undefined);
  return { type: 'answer', news };
}

/** Resolves only where the leader is silent to this too. */
async function lookBeside(
  { origins, wait }: Parameters<typeof pollLeader>[0],
  { name, leader }: Poll,
  { lateMs }: PollWaits,
  signal: AbortSignal,
): Promise<Polled> {
  if (lateMs !== undefined && (await pause(POLL_MS, signal)) && (await ownPause(lateMs, signal))) {
    wait.looked();
    const answers = await origins.where(name, signal, { id: leader, graceMs });
    const isSilent = (isLeader: boolean): boolean =>
      answers.every((one) => (one.originId === leader) !== isLeader || one.state === 'silent');
    if (isSilent(true) && !isSilent(false)) {
      wait.found();
      return { type: 'silent', answers };
    }
  }
  return await new Promise<never>(() => {});
}
