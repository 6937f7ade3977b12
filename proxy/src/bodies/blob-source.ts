import { firstAnswer } from '@sepia/base/async/ask-many';
import { MAX_TIMER_MS } from '@sepia/base/bounded-ms';
import { CodedError } from '@sepia/base/errors';
import type { BlobName } from '@sepia/base/names/blob-name';
import { ORIGIN_BLOBS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { isDecisive } from '@sepia/cluster/core/answers';
import type { InternalResponse } from '@sepia/http/client';
import type { Origins } from '../cluster/origins.ts';
import { ATTEND_EVERY_MS, BODY_MS, HOLDER_HEDGE_MS, LEADER_MS } from '../deadlines.ts';
import type { SourcePlan } from './core/choose-source.ts';

/** One question is missed by a busy origin too. */
const MISSES = 2;
/** For reads: another origin is asked in its place, and a frozen one costs at most 1.5 s. */
export const READ_MISSES = 1;
/** For what others are asked beside anyway: who is busy gets time, and one that hangs costs some 5 s only where all do. */
export const BESIDE_MISSES = 5;

/** An answer of an origin to GET or HEAD of a blob. */
export interface OpenedBlob {
  readonly originId: string;
  readonly answer: InternalResponse;
}

/**
 * Gets the first answer of the plan's origins. Holders are hedged; a leader is waited for as long as it lives,
 * since asking a second one may fetch the blob twice.
 * @throws {CodedError} what the origins said; `PEER_HTTP` when none answered
 */
export async function openBlob(
  origins: Origins,
  plan: SourcePlan,
  name: BlobName,
  method: 'GET' | 'HEAD',
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<OpenedBlob> {
  const isLeader = plan.type === 'leader';
  const ask = async (originId: string, abort: AbortSignal): Promise<OpenedBlob> => {
    const call = {
      method,
      path: to(ORIGIN_BLOBS.blob, name).path,
      headers,
      headersTimeoutMs: LEADER_MS,
      bodyTimeoutMs: BODY_MS,
      lasts: method === 'GET' ? ('body' as const) : undefined,
    };
    const either = AbortSignal.any([signal, abort]);
    const run = (running: AbortSignal): Promise<InternalResponse> =>
      origins.call(originId, { ...call, signal: running });
    return {
      originId,
      answer: isLeader ? await whileAlive(origins, originId, either, run, READ_MISSES) : await run(either),
    };
  };
  const hedgeAfterMs = isLeader ? MAX_TIMER_MS : HOLDER_HEDGE_MS;
  return await firstAnswer(origins.health.order(plan.originIds), ask, {
    hedgeAfterMs,
    signal,
    isFinal: isDecisive,
  });
}

/**
 * Runs a call that may take long, and gives up when the origin answers nothing at all meanwhile, `misses` small questions in
 * a row: more where nobody else can be asked in its place.
 */
export async function whileAlive<T>(
  origins: Origins,
  originId: string,
  signal: AbortSignal,
  run: (signal: AbortSignal) => Promise<T>,
  misses = MISSES,
): Promise<T> {
  const dead = new AbortController();
  let probing = false;
  let missed = 0;
  const probed = (isAlive: boolean): void => {
    probing = false;
    missed = isAlive ? 0 : missed + 1;
    if (missed >= misses)
      dead.abort(new CodedError('PEER_HTTP', { message: `origin ${originId} stopped answering` }));
  };
  const timer = setInterval(() => {
    if (probing) return;
    if (origins.alive(originId, ATTEND_EVERY_MS)) return probed(true);
    probing = true;
    origins.probe(originId).then(probed, (error: unknown) => dead.abort(error));
  }, ATTEND_EVERY_MS);
  try {
    return await run(AbortSignal.any([signal, dead.signal]));
  } finally {
    clearInterval(timer);
  }
}
