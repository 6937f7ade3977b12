import { KeyedLocks } from '@sepia/base/async/keyed-locks';
import { chance } from '@sepia/base/clock/chance';
import { CodedError } from '@sepia/base/errors';
import { H_STANDING } from '@sepia/cluster/api/headers';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { readLimited } from '@sepia/http/client';
import { parseRegisterReply } from '@sepia/records/register/acceptor-store';
import { RegisterClient } from '@sepia/records/register/register-client';
import { senderOf } from '@sepia/records/sender-header';
import type { Origins } from '../cluster/origins.ts';
import { RECORD_MS, RECORD_PATIENT_MS, RECORD_REQUEST_MS, RECORD_REST_MS } from '../deadlines.ts';

const MAX_REPLY_BYTES = 1024 * 1024;
/** Harbor waits 30 s for an answer and takes an error for a failed job: a majority is waited for. */
const OPTIONS = {
  deadlineMs: RECORD_MS,
  requestTimeoutMs: RECORD_REQUEST_MS,
  quorumTries: 8,
  maxBackoffMs: RECORD_REST_MS,
};
/** Nobody has another way. */
const PATIENCE = { messageMs: RECORD_PATIENT_MS, deadlineMs: RECORD_MS };

/** Registers on the origins, for what must outlive this proxy. */
export class Records {
  readonly #origins: Origins;
  readonly #client: RegisterClient;
  /** Steady: what waits is given up neither early nor late where clocks are set. */
  readonly #nowMs: () => number;
  /** Changes of one register take turns: proposals of one proxy are none that get in each other's way. */
  readonly #turns = new KeyedLocks<string>();

  constructor(deps: { readonly origins: Origins; readonly memberId: string; readonly nowMs: () => number }) {
    const { origins, memberId, nowMs } = deps;
    this.#origins = origins;
    this.#nowMs = nowMs;
    this.#client = new RegisterClient(
      {
        transport: async (id, request, signal, timeoutMs) => {
          const answer = await origins.call(id, {
            ...to(ORIGIN_RECORDS.register),
            body: JSON.stringify(request),
            headers: { 'content-type': 'application/json' },
            // Who asks gives up in time; a socket's own clock is a coarse one.
            headersTimeoutMs: 2 * timeoutMs,
            bodyTimeoutMs: 2 * timeoutMs,
            signal,
          });
          const bytes = await readLimited(answer.body, MAX_REPLY_BYTES, id);
          const reply = parseRegisterReply(JSON.parse(bytes.toString('utf8')));
          return { ...reply, sender: senderOf(id, answer.headers[H_STANDING]) };
        },
        chance,
        nowMs,
        isSuspect: (id) => origins.health.isSuspect(id),
        isGone: (id) => origins.health.isGone(id),
      },
      { proposerId: memberId, ...OPTIONS },
    );
  }

  /** A quorum read. @throws `QUORUM_LOST`, `CONFLICT` */
  async read<T>(key: string): Promise<T | undefined> {
    return await this.#client.read<T>(key, () => this.#origins.shard(key), { patience: PATIENCE });
  }

  /**
   * Replaces a value by what `change` makes of it. Its turn comes after those before it within the deadline, or never: where no
   * quorum answers they do not wait for each other's ends in vain. @throws `QUORUM_LOST`, `CONFLICT`, what `change` throws
   */
  async change<T>(key: string, change: (current: T | undefined) => T | undefined): Promise<T | undefined> {
    const untilMs = this.#nowMs() + OPTIONS.deadlineMs;
    return await this.#turns.run(key, async () => {
      if (this.#nowMs() > untilMs) throw new CodedError('CONFLICT', { detail: { key } });
      const call = { patience: PATIENCE };
      return await this.#client.change<T>(key, () => this.#origins.shard(key), change, call);
    });
  }
}
