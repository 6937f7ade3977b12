import { createHmac, randomBytes } from 'node:crypto';
import { KeyedLocks } from '@sepia/base/async/keyed-locks';
import { CodedError } from '@sepia/base/errors';
import { ExpiringMap } from '@sepia/base/expiring-map';
import { hostOf } from '@sepia/base/names/host-of';
import type { AccessAnswer } from '@sepia/cluster/api/access';
import { LOGIN_RIGHT_MS } from '../deadlines.ts';
import { LoginLimits } from './login-limits.ts';

/** Tries of one account from one address that wait for each other; more are refused. */
const MAX_WAITING = 16;
const MAX_RIGHT = 10_000;

/** Who tries to log in as whom. */
export interface LoginTry {
  /** What failures are counted for: the account, with its upstream where there are several. */
  readonly account: string;
  readonly address: string;
  readonly password: string;
}

interface Tried<T> {
  /** Undefined: nobody could tell. */
  readonly isRight: boolean | undefined;
  readonly value: T;
}

/** One password at a time for account and address, so that many at once do not pass before the first failure counts. */
export class LoginGuard {
  readonly #limits = new LoginLimits();
  readonly #locks = new KeyedLocks<string>();
  readonly #waiting = new Map<string, number>();
  /** Passwords that were right lately; nothing of them can be told from a dump of it. */
  readonly #right = new ExpiringMap<true>(MAX_RIGHT);
  readonly #secret = randomBytes(32);
  readonly #nowMs: () => number;

  constructor(deps: { readonly nowMs: () => number }) {
    this.#nowMs = deps.nowMs;
  }

  /**
   * Runs `attempt`, whose result says whether the password was right (undefined: nobody could tell).
   * `onLimited` hears of a try that is not made. @throws {CodedError} `OVERLOADED`, what `attempt` throws
   */
  async run<T>(
    one: LoginTry,
    attempt: () => Promise<Tried<T>>,
    onLimited: () => void = () => undefined,
  ): Promise<T> {
    const proof = this.#proofOf(one);
    if (this.#right.get(proof, this.#nowMs()) !== undefined) return await this.#try(one, proof, attempt);
    const key = `${one.account}\n${hostOf(one.address)}`;
    const waiting = this.#waiting.get(key) ?? 0;
    if (waiting >= MAX_WAITING) throw this.#limited(1_000, onLimited);
    this.#waiting.set(key, waiting + 1);
    try {
      return await this.#locks.run(key, async () => {
        const waitMs = this.#limits.waitMs(one.account, one.address, this.#nowMs());
        if (waitMs > 0) throw this.#limited(waitMs, onLimited);
        return await this.#try(one, proof, attempt);
      });
    } finally {
      const left = (this.#waiting.get(key) ?? 1) - 1;
      if (left === 0) this.#waiting.delete(key);
      else this.#waiting.set(key, left);
    }
  }

  /**
   * As {@link run}, for a password that is shown to an upstream with a read.
   * @throws {CodedError} `OVERLOADED`, what `ask` throws
   */
  async show(one: LoginTry, ask: () => Promise<AccessAnswer>): Promise<AccessAnswer> {
    return await this.run(one, async () => {
      const value = await ask();
      const isRight = { granted: true, challenge: false, public: undefined, denied: undefined }[
        value.verdict
      ];
      return { isRight, value };
    });
  }

  async #try<T>(one: LoginTry, proof: string, attempt: () => Promise<Tried<T>>): Promise<T> {
    const { isRight, value } = await attempt();
    const nowMs = this.#nowMs();
    if (isRight === true) {
      this.#limits.succeeded(one.account, one.address, nowMs);
      this.#right.set(proof, true, nowMs + LOGIN_RIGHT_MS);
    }
    if (isRight === false) {
      this.#limits.failed(one.account, one.address, nowMs);
      this.#right.delete(proof);
    }
    return value;
  }

  #proofOf({ account, password }: LoginTry): string {
    return createHmac('sha256', this.#secret).update(`${account}\0${password}`).digest('base64url');
  }

  #limited(waitMs: number, onLimited: () => void): CodedError {
    onLimited();
    return new CodedError('OVERLOADED', {
      message: 'too many failed logins; try again later',
      detail: { retryAfterSeconds: Math.ceil(waitMs / 1_000) },
    });
  }
}
