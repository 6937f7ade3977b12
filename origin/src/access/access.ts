import { SingleFlight } from '@sepia/base/async/single-flight';
import { isDigest } from '@sepia/base/digest';
import { CodedError, isCoded } from '@sepia/base/errors';
import { ExpiringMap } from '@sepia/base/expiring-map';
import { throwIfBug } from '@sepia/base/failure';
import { LatestMap } from '@sepia/base/latest-map';
import type { RepositoryName } from '@sepia/base/names/repository';
import type { AccessAnswer, AccessChallenge, AccessItem, TokenAnswer } from '@sepia/cluster/api/access';
import { shardKey } from '@sepia/cluster/cluster';
import { believableUntilMs, hashOf } from '@sepia/face/access/authorization';
import { parseReference } from '@sepia/oci/route';
import type { BearerChallenge } from '@sepia/oci/www-authenticate';
import type { Authorizer, UpstreamChallenge } from '@sepia/upstream/authenticator';
import { isDeniedElsewhere, isOfCredentials, isOfWhoAsks } from '@sepia/upstream/failure';
import { carriesPassword } from '@sepia/upstream/transport';
import type { UpstreamClient } from '@sepia/upstream/upstream-client';
import {
  ACCESS_MS,
  BASE_ASK_MS,
  BASE_FAILED_MS,
  BASE_MS,
  GRANTED_MS,
  PRIVATE_MS,
  PUBLIC_MS,
  REALM_MS,
  REVALIDATE_MS,
  SAME_TOKEN_MS,
  STALE_TTL_MS,
} from '../deadlines/upstreams.ts';
import { probeManifest } from '../manifests/manifest-probe.ts';
import type { Manifests } from '../manifests/manifests.ts';
import type { Links } from '../records/links.ts';
import type { PublicRepositories } from '../records/public-repositories.ts';
import type { Tags } from '../records/tags.ts';
import { isPassing, upstreamError } from '../upstream/upstream-failure.ts';
import type { Upstreams } from '../upstream/upstreams.ts';
import type { PrivateRepositories, SaidToNobody } from './private-repositories.ts';
import type { Sessions } from './sessions.ts';
import { unlessLate } from './unless-late.ts';

const MAX_ENTRIES = 20_000;

interface AccessDeps {
  readonly upstreams: Upstreams;
  readonly manifests: Manifests;
  readonly tags: Tags;
  readonly links: Links;
  readonly sessions: Sessions;
  readonly privates: PrivateRepositories;
  readonly publics: Pick<PublicRepositories, 'note' | 'forget' | 'recall'>;
  readonly nowMs: () => number;
  /** The cluster's date, which may be set. */
  readonly dateMs: () => number;
  /** So long the upstream is waited for where what was public could be served instead, in ms. */
  readonly patienceMs?: number;
}

interface Name {
  readonly upstream: string;
  readonly repository: RepositoryName;
}

/** What is asked about; `unwanted` is aborted when nobody waits for the answer any more. */
type Asked = AccessItem & { readonly unwanted: AbortSignal };

/**
 * Whom the upstream lets read which repository. Nobody's name is tried first; that it works makes the repository
 * public for a while. Else the client's own credentials are tried, once for all that ask with them at a time. The
 * question is a read that the client is about to make anyway, and what it brings is kept: a public pull costs the
 * upstream no request more.
 */
export class Access {
  readonly #deps: AccessDeps;
  /** Until when a repository counts as public; the value is when the upstream last said so. */
  readonly #public = new ExpiringMap<number>(MAX_ENTRIES);
  /** How often the upstream said no to nobody: what it was asked before such a no says less. */
  readonly #noes = new LatestMap<string, number>(MAX_ENTRIES);
  readonly #granted = new ExpiringMap<true>(MAX_ENTRIES);
  /** Credentials that the upstream refused for a repository a moment ago. */
  readonly #refused = new ExpiringMap<true>(MAX_ENTRIES);
  readonly #base = new ExpiringMap<UpstreamChallenge | undefined>(1_000);
  readonly #baseFailed = new ExpiringMap<CodedError>(1_000);
  /** What each upstream asked for last, however long ago: it may be told again, as it lets nobody in. */
  readonly #asked = new Map<string, UpstreamChallenge>();
  readonly #tokens = new ExpiringMap<TokenAnswer>(2_000);
  /** When tokens that were handed out here end, by their hash: opaque ones do not say it. */
  readonly #ends = new ExpiringMap<number>(MAX_ENTRIES);
  /** The realm that each upstream named last. */
  readonly #realms = new Map<string, BearerChallenge>();
  readonly #running = new SingleFlight<string, AccessAnswer>();
  readonly #givingTokens = new SingleFlight<string, TokenAnswer>();
  /** Under which key a token that was handed out is kept, by its hash. */
  readonly #tokenKeys = new ExpiringMap<string>(2_000);

  constructor(deps: AccessDeps) {
    this.#deps = deps;
  }

  /**
   * May whoever sent `authorization` (undefined: nobody) read this? `signal`: of who asks; for a password it goes on all the same.
   * @throws {CodedError} what the upstream says of the item itself (404), `BACKEND_DOWN`, `UPSTREAM_LIMITED`
   */
  async check(
    name: Name,
    item: AccessItem,
    authorization: string | undefined,
    signal?: AbortSignal,
  ): Promise<AccessAnswer> {
    const key = shardKey(name.upstream, name.repository);
    const hash = authorization === undefined ? '' : hashOf(authorization);
    const known = this.#known(key, hash);
    if (known !== undefined) return known;
    const ask = async (over: AbortSignal): Promise<AccessAnswer> => {
      const leaving = signal === undefined ? over : AbortSignal.any([signal, over]);
      return await this.#question(name, item, authorization, leaving);
    };
    // An upstream that thinks too long takes nothing back either; what it says after all is heard.
    return await unlessLate(ask, this.#deps.patienceMs ?? REVALIDATE_MS, async () => await this.#stale(name));
  }

  async #question(
    name: Name,
    item: AccessItem,
    authorization: string | undefined,
    signal: AbortSignal,
  ): Promise<AccessAnswer> {
    const hash = authorization === undefined ? '' : hashOf(authorization);
    // A password is shown once for all that a client asks for at a time; whoever waits asks again if nothing was decided.
    const isPassword = carriesPassword(authorization);
    const flight = `${shardKey(name.upstream, name.repository)}\n${hash}\n${isPassword ? '' : itemText(item)}`;
    if (isPassword && this.#running.has(flight)) {
      await this.#running.idle(flight);
      signal.throwIfAborted();
      return await this.check(name, item, authorization);
    }
    const ask = async (unwanted: AbortSignal): Promise<AccessAnswer> =>
      await this.#ask(name, { ...item, unwanted }, authorization);
    return await this.#running.share(flight, ask, isPassword ? undefined : signal);
  }

  /** What `/v2/` of the upstream asks for. */
  async base(upstream: string): Promise<AccessAnswer> {
    const challenge = await this.#baseChallenge(upstream);
    if (challenge === undefined)
      return { verdict: 'public', ttlMs: this.#base.leftMs(upstream, this.#deps.nowMs()) };
    return { verdict: 'challenge', challenge: told(challenge) };
  }

  /** A token of the upstream's own token service, for a client's credentials. @throws what that service says */
  async token(
    upstream: string,
    scopes: readonly string[],
    credentials: { readonly username: string; readonly password: string },
  ): Promise<TokenAnswer> {
    const key = hashOf([upstream, credentials.username, credentials.password, ...scopes].join('\0'));
    const known = this.#tokens.get(key, this.#deps.nowMs());
    if (known !== undefined) return known;
    return await this.#givingTokens.share(
      key,
      async () => await this.#giveToken(upstream, key, scopes, credentials),
    );
  }

  async #giveToken(
    upstream: string,
    key: string,
    scopes: readonly string[],
    credentials: { readonly username: string; readonly password: string },
  ): Promise<TokenAnswer> {
    const challenge = await this.#realmOf(upstream);
    const { nowMs, dateMs } = this.#deps;
    const askedMs = nowMs();
    const issuedAtMs = dateMs();
    let given: Awaited<ReturnType<UpstreamClient['token']>>;
    try {
      given = await this.#client(upstream).token(challenge, scopes, credentials);
    } catch (error) {
      throwIfBug(error);
      // Where it is not there any more, the registry is asked again before the next try.
      if (!isCoded(error, 'UPSTREAM_DENIED')) this.#base.delete(upstream);
      throw error;
    }
    const { token, lifetimeSeconds } = given;
    const answer = { token, expires_in: lifetimeSeconds, issued_at: new Date(issuedAtMs).toISOString() };
    const endMs = askedMs + lifetimeSeconds * 1_000;
    const hash = hashOf(`Bearer ${token}`);
    const keepUntilMs = askedMs + Math.min(SAME_TOKEN_MS, lifetimeSeconds * 500);
    // Kept a little longer than it lives, so that its end is known to who asks at its end.
    this.#ends.set(hash, endMs, endMs + GRANTED_MS);
    this.#tokens.set(key, answer, keepUntilMs);
    this.#tokenKeys.set(hash, key, keepUntilMs);
    return answer;
  }

  /** Where tokens are given now: what the registry says of it, or said last while it does not answer. */
  async #realmOf(upstream: string): Promise<BearerChallenge> {
    if (this.#base.leftMs(upstream, this.#deps.nowMs()) < BASE_MS - REALM_MS) this.#base.delete(upstream);
    const remembered = this.#realms.get(upstream);
    const base = await this.#baseChallenge(upstream).catch((error: unknown) => {
      throwIfBug(error);
      if (remembered === undefined) throw error;
      return undefined;
    });
    if (base?.scheme === 'bearer') return base;
    if (remembered !== undefined && base?.scheme !== 'basic') return remembered;
    throw new CodedError('METHOD_UNSUPPORTED', { message: `upstream ${upstream} gives no tokens` });
  }

  #known(key: string, hash: string): AccessAnswer | undefined {
    const nowMs = this.#deps.nowMs();
    const publicMs = this.#freshPublicMs(key, nowMs);
    if (publicMs > 0) return { verdict: 'public', ttlMs: publicMs };
    const grant = `${key}\n${hash}`;
    if (hash !== '' && this.#granted.get(grant, nowMs) !== undefined)
      return { verdict: 'granted', ttlMs: this.#granted.leftMs(grant, nowMs) };
    if (hash !== '' && this.#refused.get(grant, nowMs) === undefined) return undefined;
    const refused = this.#deps.privates.get(key);
    return refused === undefined ? undefined : refusal(refused);
  }

  #freshPublicMs(key: string, nowMs: number): number {
    const atMs = this.#public.get(key, nowMs);
    return atMs === undefined ? 0 : Math.max(0, atMs + PUBLIC_MS - nowMs);
  }

  async #ask(name: Name, item: Asked, authorization: string | undefined): Promise<AccessAnswer> {
    const key = shardKey(name.upstream, name.repository);
    const client = this.#client(name.upstream);
    const { sessions, upstreams, publics, privates } = this.#deps;
    let mine: CodedError | undefined;
    if (authorization !== undefined) {
      const as = sessions.authorizer(client, key, authorization);
      mine = as === undefined ? undefined : await this.#probe(name, item, as);
      if (as !== undefined && mine === undefined) return this.#grant(name, key, authorization, as);
      if (mine !== undefined && !isOfCredentials(mine)) return await this.#orStale(name, key, mine);
      sessions.drop(key, authorization);
      // Rights may be granted next: the token that lacked them is not handed out once more.
      this.#tokens.delete(this.#tokenKeys.get(hashOf(authorization), this.#deps.nowMs()) ?? '');
      // Made-up credentials cost the upstream one request, not two.
      const nowMs = this.#deps.nowMs();
      if (!isForbidden(mine)) {
        this.#refused.set(`${key}\n${hashOf(authorization)}`, true, nowMs + PRIVATE_MS);
        const known = privates.get(key);
        if (known !== undefined) return refusal(known);
      }
    }
    const anonymous = upstreams.anonymous(name.upstream)!;
    const noes = this.#noes.get(key);
    const refused = await this.#probe(name, item, anonymous);
    const nowMs = this.#deps.nowMs();
    if (refused === undefined && noes !== this.#noes.get(key)) return { verdict: 'public', ttlMs: 0 };
    if (refused === undefined) {
      const staleLimitMs = upstreams.get(name.upstream).tags['stale-limit'];
      this.#public.set(key, nowMs, nowMs + Math.max(PUBLIC_MS, staleLimitMs));
      privates.forget(key);
      publics.note(name);
      return { verdict: 'public', ttlMs: PUBLIC_MS };
    }
    if (!isOfWhoAsks(refused)) return await this.#orStale(name, key, refused);
    this.#notPublic(name, key);
    const challenge = anonymous.challenge(scopeOf(name));
    this.#learnRealm(name.upstream, challenge);
    const answer = challenge === undefined ? { denied: refused.message } : told(challenge);
    privates.note(key, answer);
    if (mine !== undefined && !isForbidden(mine))
      this.#refused.set(`${key}\n${hashOf(authorization ?? '')}`, true, nowMs + PRIVATE_MS);
    // Credentials that the upstream knows and does not let in: another login would not help.
    if (mine !== undefined && isForbidden(mine)) return { verdict: 'denied', message: mine.message };
    return refusal(answer);
  }

  #grant(name: Name, key: string, authorization: string, as: Authorizer): AccessAnswer {
    const nowMs = this.#deps.nowMs();
    const dateMs = this.#deps.dateMs();
    const endMs = this.#ends.get(hashOf(authorization), nowMs);
    const known = endMs === undefined ? undefined : endMs - nowMs + dateMs;
    const ttlMs = Math.min(GRANTED_MS, believableUntilMs(authorization, dateMs, known) - dateMs);
    if (this.#deps.upstreams.get(name.upstream)['fetch-with'] !== 'robot')
      this.#deps.sessions.keep(key, authorization, as);
    this.#granted.set(`${key}\n${hashOf(authorization)}`, true, nowMs + Math.max(0, ttlMs));
    return { verdict: 'granted', ttlMs: Math.max(0, ttlMs) };
  }

  #notPublic(name: Name, key: string): void {
    this.#public.delete(key);
    this.#noes.set(key, (this.#noes.get(key) ?? 0) + 1);
    void this.#deps.publics.forget(name);
  }

  /** An upstream that does not answer takes nothing back: what was public is served within the stale limit. */
  async #orStale(name: Name, key: string, error: CodedError): Promise<AccessAnswer> {
    if (isDeniedElsewhere(error)) this.#notPublic(name, key);
    const stale = isPassing(error) ? await this.#stale(name) : undefined;
    if (stale === undefined) throw error;
    return stale;
  }

  /** What was public, and may be served while the upstream says nothing. */
  async #stale(name: Name): Promise<AccessAnswer | undefined> {
    const key = shardKey(name.upstream, name.repository);
    const nowMs = this.#deps.nowMs();
    const own = this.#public.get(key, nowMs);
    // What others heard meanwhile counts more than an old memory; that counts where the record cannot be read.
    const isFresh = own !== undefined && nowMs - own < PUBLIC_MS;
    const recorded = isFresh ? undefined : await this.#deps.publics.recall(name);
    const ownAgeMs = own === undefined ? undefined : nowMs - own;
    const recordedAgeMs = typeof recorded === 'number' ? this.#deps.dateMs() - recorded : undefined;
    const ageMs = isFresh || recorded === 'unreadable' ? ownAgeMs : recordedAgeMs;
    const staleLimitMs = this.#deps.upstreams.get(name.upstream).tags['stale-limit'];
    if (ageMs === undefined || ageMs > Math.max(PUBLIC_MS, staleLimitMs)) return undefined;
    return { verdict: 'public', ttlMs: STALE_TTL_MS };
  }

  /** Reads the item in somebody's name; undefined if that works. */
  async #probe(name: Name, item: Asked, as: Authorizer): Promise<CodedError | undefined> {
    const signal = AbortSignal.timeout(ACCESS_MS);
    const client = this.#client(name.upstream);
    const { unwanted } = item;
    const query = { repository: name.repository, as, unwanted };
    try {
      if (item.kind === 'manifest')
        await probeManifest(
          this.#deps,
          client,
          name,
          { ...query, reference: parseReference(item.reference) },
          signal,
        );
      else if (item.kind === 'blob' && isDigest(item.digest))
        await client.headBlob({ ...query, digest: item.digest }, signal);
      else await client.listTags({ ...query, n: 1 }, signal);
      return undefined;
    } catch (error) {
      if (error === unwanted.reason) throw error;
      return upstreamError(error, name.upstream);
    }
  }

  async #baseChallenge(upstream: string): Promise<UpstreamChallenge | undefined> {
    const nowMs = this.#deps.nowMs();
    if (this.#base.leftMs(upstream, nowMs) > 0) return this.#base.get(upstream, nowMs);
    const failed = this.#baseFailed.get(upstream, nowMs);
    let challenge: UpstreamChallenge | undefined;
    try {
      if (failed !== undefined) throw failed;
      challenge = await this.#client(upstream).baseChallenge(AbortSignal.timeout(BASE_ASK_MS));
    } catch (thrown) {
      const error = upstreamError(thrown, upstream);
      if (failed === undefined) this.#baseFailed.set(upstream, error, this.#deps.nowMs() + BASE_FAILED_MS);
      const asked = this.#asked.get(upstream);
      if (asked !== undefined && isPassing(error)) return asked;
      throw error;
    }
    this.#base.set(upstream, challenge, nowMs + BASE_MS);
    if (challenge === undefined) this.#asked.delete(upstream);
    else this.#asked.set(upstream, challenge);
    this.#learnRealm(upstream, challenge);
    return challenge;
  }

  #learnRealm(upstream: string, challenge: UpstreamChallenge | undefined): void {
    if (challenge?.scheme === 'bearer') this.#realms.set(upstream, challenge);
  }

  #client(upstream: string): UpstreamClient {
    const client = this.#deps.upstreams.client(upstream);
    if (client === undefined)
      throw new CodedError('REQUEST_INVALID', {
        message: `upstream ${upstream} has mode none and no registry to ask`,
      });
    return client;
  }
}

/** The upstream knows who it is, and says no. */
function isForbidden(error: CodedError | undefined): boolean {
  return error?.detail['status'] === 403 || error?.detail['status'] === 412;
}

function refusal(known: SaidToNobody): AccessAnswer {
  return 'denied' in known
    ? { verdict: 'denied', message: known.denied }
    : { verdict: 'challenge', challenge: known };
}

/** Without the realm: clients are sent to our own. */
function told(challenge: UpstreamChallenge): AccessChallenge {
  if (challenge.scheme === 'basic') return { scheme: 'basic' };
  return { scheme: 'bearer', service: challenge.service, scope: challenge.scope };
}

function scopeOf(name: Name): string {
  return `repository:${name.repository}:pull`;
}

function itemText(item: AccessItem): string {
  if (item.kind === 'manifest') return item.reference;
  return item.kind === 'blob' ? item.digest : '';
}
