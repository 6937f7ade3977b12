import type { LookupAddress } from 'node:dns';
import type { LookupFunction } from 'node:net';
import { systemCode } from '@sepia/base/errors';
import { ExpiringMap } from '@sepia/base/expiring-map';
import { LogLimit } from '@sepia/base/log-limit';
import { FAILED_EVERY_MS, NAME_KEPT_MS, SLOW_NAME_MS } from '../deadlines/sockets.ts';
import { answerLookup, type Found, type Resolve, systemResolve } from './lookup.ts';

interface LastingNamesDeps {
  readonly nowMs: () => number;
  readonly log?: { warn(facts: object, message: string): void } | undefined;
  /** Finds all addresses of a name; default: as the system does. */
  readonly resolve?: Resolve;
  /** How long addresses are remembered; default: those of members. */
  readonly keptMs?: number;
  /** Where a name server says that there is no such name that counts at once; else it may be a slip of its own. */
  readonly believesNone?: boolean;
}

/** Names whose addresses are remembered at most. */
const MAX_NAMES = 10_000;

/**
 * Looks up names. The addresses found last are given where a name server fails, or is slow: who is there is reached although
 * nobody says where. A wrong address does no harm where whoever is there proves who it is, as members do.
 */
export class LastingNames {
  readonly #deps: LastingNamesDeps;
  readonly #known = new ExpiringMap<readonly LookupAddress[]>(MAX_NAMES);
  /** Those that wait for a lookup under way: a name server that is silent is asked once for all of them. */
  readonly #waiting = new Map<string, Found[]>();
  readonly #limit = new LogLimit({ everyMs: FAILED_EVERY_MS, lines: 20 });

  constructor(deps: LastingNamesDeps) {
    this.#deps = deps;
  }

  /** For whoever connects. */
  readonly lookup: LookupFunction = (name, options, done) => {
    this.find(name, (error, found) => {
      if (error === null) answerLookup(name, found, options, done);
      else done(error, []);
    });
  };

  /** All addresses of a name, as {@link lookup}. */
  readonly find = (name: string, done: Found): void => {
    const known = this.#known.get(name, this.#deps.nowMs());
    let isTold = false;
    const tell: Found = (error, found) => {
      clearTimeout(timer);
      if (isTold) return;
      isTold = true;
      done(error, found);
    };
    const useKnown = (addresses: readonly LookupAddress[], reason: string): void => {
      if (!isTold) this.#logStale(name, reason);
      tell(null, addresses);
    };
    const timer = known && setTimeout(useKnown, SLOW_NAME_MS, known, 'slow');
    this.#ask(name, (error, found) => {
      if (error === null || known === undefined || this.#isNone(error)) tell(error, found);
      else useKnown(known, systemCode(error) ?? error.message);
    });
  };

  #isNone(error: NodeJS.ErrnoException): boolean {
    return this.#deps.believesNone === true && error.code === 'ENOTFOUND';
  }

  #ask(name: string, done: Found): void {
    const others = this.#waiting.get(name);
    if (others !== undefined) {
      others.push(done);
      return;
    }
    const waiting = [done];
    this.#waiting.set(name, waiting);
    const { resolve = systemResolve, nowMs, keptMs = NAME_KEPT_MS } = this.#deps;
    resolve(name, (error, found) => {
      this.#waiting.delete(name);
      if (error === null && found.length > 0) this.#known.set(name, found, nowMs() + keptMs);
      else if (error !== null && this.#isNone(error)) this.#known.delete(name);
      for (const one of waiting) one(error, found);
    });
  }

  #logStale(name: string, reason: string): void {
    const leftOut = this.#limit.take(name, this.#deps.nowMs());
    if (leftOut === undefined) return;
    this.#deps.log?.warn({ name, reason, leftOut }, 'a name does not resolve; its last addresses are used');
  }
}
