import { SingleFlight } from '@sepia/base/async/single-flight';
import { ExpiringMap } from '@sepia/base/expiring-map';
import { LatestMap } from '@sepia/base/latest-map';
import type { ResolvedName } from '@sepia/base/names/upstream-name';
import type { AccessAnswer, AccessItem } from '@sepia/cluster/api/access';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import { shardKey } from '@sepia/cluster/cluster';
import { hashOf } from '../access/authorization.ts';
import { MAX_GRANTED_MS, MAX_PUBLIC_MS } from '../deadlines.ts';

const MAX_DECISIONS = 20_000;

/** Asks an origin, see `GET /v1/access`. Throws what the origin says, or that nobody answers. */
export type AskAccess = (
  name: ResolvedName,
  item: AccessItem,
  authorization: string | undefined,
  signal: AbortSignal,
) => Promise<AccessAnswer>;

/**
 * What this member knows of who may read which repository of an upstream. Only yeses are kept, by the hash of the
 * credentials, and never longer than the origin said; one question runs at a time for all that wait for it, and as long as one does.
 */
export class UpstreamAccess {
  readonly #ask: AskAccess;
  readonly #nowMs: () => number;
  readonly #public = new ExpiringMap<AccessAnswer>(MAX_DECISIONS);
  readonly #granted = new ExpiringMap<AccessAnswer>(MAX_DECISIONS);
  /** Which was the last time that what was believed of a repository was forgotten: what was asked for before it is not believed. */
  readonly #forgotten = new LatestMap<string, number>(MAX_DECISIONS);
  #timesForgotten = 0;
  /** When tokens that were handed out here end, by their hash: opaque ones do not say it. */
  readonly #ends = new ExpiringMap<number>(MAX_DECISIONS);
  readonly #running = new SingleFlight<string, AccessAnswer>();

  constructor(deps: { readonly ask: AskAccess; readonly nowMs: () => number }) {
    this.#ask = deps.ask;
    this.#nowMs = deps.nowMs;
  }

  async decide(
    name: ResolvedName,
    item: AccessItem,
    authorization: string | undefined,
    signal?: AbortSignal,
  ): Promise<AccessAnswer> {
    const repository = shardKey(name.upstream, name.repository);
    const hash = authorization === undefined ? '' : hashOf(authorization);
    const key = `${repository}\n${hash}`;
    const nowMs = this.#nowMs();
    const known = this.#public.get(repository, nowMs) ?? this.#granted.get(key, nowMs);
    if (known !== undefined) return known;
    const forgotten = this.#forgotten.get(repository);
    const flight = `${key}\n${itemKey(item)}\n${forgotten ?? 0}`;
    const ask = async (unwanted: AbortSignal): Promise<AccessAnswer> => {
      const answer = await this.#ask(name, item, authorization, unwanted);
      if (forgotten === this.#forgotten.get(repository)) this.#keep(repository, hash, answer);
      return answer;
    };
    return await this.#running.share(flight, ask, signal);
  }

  /** True if a yes is known: nothing has to be asked. */
  isKnown(name: ResolvedName, authorization: string | undefined): boolean {
    const repository = shardKey(name.upstream, name.repository);
    const key = `${repository}\n${authorization === undefined ? '' : hashOf(authorization)}`;
    const nowMs = this.#nowMs();
    return (this.#public.get(repository, nowMs) ?? this.#granted.get(key, nowMs)) !== undefined;
  }

  /** A token was handed out that opens nothing after `endMs`, by this object's clock. */
  noteEnd(authorization: string, endMs: number): void {
    // Kept a little longer than it lives, so that its end is known to who asks at its end.
    this.#ends.set(hashOf(authorization), endMs, endMs + MAX_GRANTED_MS);
  }

  /** The upstream refused what was believed to be allowed. */
  forget(name: ResolvedName, authorization: string | undefined): void {
    const repository = shardKey(name.upstream, name.repository);
    this.#timesForgotten += 1;
    this.#forgotten.set(repository, this.#timesForgotten);
    this.#public.delete(repository);
    this.#granted.delete(`${repository}\n${authorization === undefined ? '' : hashOf(authorization)}`);
  }

  #keep(repository: string, hash: string, answer: AccessAnswer): void {
    const nowMs = this.#nowMs();
    if (answer.verdict === 'public')
      this.#public.set(repository, answer, nowMs + Math.min(MAX_PUBLIC_MS, answer.ttlMs));
    if (answer.verdict === 'granted') {
      const endMs = this.#ends.get(hash, nowMs) ?? Number.MAX_SAFE_INTEGER;
      const untilMs = Math.min(endMs, nowMs + MAX_GRANTED_MS, nowMs + answer.ttlMs);
      this.#granted.set(`${repository}\n${hash}`, answer, untilMs);
    }
  }
}

function itemKey(item: AccessItem): string {
  if (item.kind === 'manifest') return item.reference;
  return item.kind === 'blob' ? item.digest : '';
}

/** The call that asks an origin whether an item may be read. */
export function accessCall({ upstream, repository }: ResolvedName, item: AccessItem) {
  const reference = item.kind === 'manifest' ? item.reference : undefined;
  const digest = item.kind === 'blob' ? item.digest : undefined;
  return to(ORIGIN_RECORDS.access, { upstream, repository, reference, digest });
}
