import type { LookupFunction } from 'node:net';
import { ADDRESS_REFUSED, CodedError, REDIRECT_REFUSED } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { FOREIGN_NAME_KEPT_MS } from '@sepia/http/deadlines/sockets';
import { LastingNames } from '@sepia/http/names/lasting-names';
import { answerLookup, type Resolve } from '@sepia/http/names/lookup';
import {
  createDispatcher,
  type Dispatcher,
  type MemberDialling,
  type ProxyAddress,
} from '@sepia/http/sockets';
import type { TlsTexts } from '@sepia/http/tls/tls-texts';
import {
  type AddressClass,
  classOf,
  type Home,
  isAddress,
  mayDial,
  type Place,
  type Purpose,
  placeOf,
} from './core/reach.ts';
import { Pools, type PoolTerms } from './credentials/pools.ts';

interface SocketsDeps {
  /** Name of the upstream, for errors. */
  readonly upstream: string;
  readonly home: Home;
  /** The proxy for a URL, or undefined for none. */
  readonly proxyFor: (url: URL) => ProxyAddress | undefined;
  /** Certificates as they are at this moment. */
  readonly tls?: { current(): TlsTexts } | undefined;
  readonly resolve?: Resolve | undefined;
  readonly log?: { warn(facts: object, message: string): void } | undefined;
  /** The registry is a proxy of the cluster: how its members are dialled. */
  readonly member?: MemberDialling | undefined;
}

interface SocketsOptions {
  readonly connections: number;
  readonly connectTimeoutMs: number;
  readonly insecure: boolean;
}

const NO_TLS: TlsTexts = {};

/**
 * Connections for a registry, and for whom it leads to: storage behind redirects, token services. Where those may be is
 * decided by {@link mayDial} when the name is looked up, and what was looked up is what is dialled, so that no second
 * answer of a name service comes in between. Through a proxy only addresses in URLs are seen: it looks up names itself.
 */
export class UpstreamSockets {
  readonly #deps: SocketsDeps;
  readonly #options: SocketsOptions;
  readonly #pools = new Pools();
  readonly #names: LastingNames;
  #own: AddressClass | undefined;
  #closed: unknown;

  constructor(deps: SocketsDeps, options: SocketsOptions) {
    this.#deps = deps;
    this.#options = options;
    this.#names = new LastingNames({
      nowMs: () => performance.now(),
      log: deps.log,
      ...(deps.resolve === undefined ? {} : { resolve: deps.resolve }),
      keptMs: FOREIGN_NAME_KEPT_MS,
      believesNone: true,
    });
    const { hostname } = deps.home.base;
    if (isAddress(hostname)) this.#own = classOf(hostname);
  }

  /** What a URL is to the registry. */
  placeOf(url: URL, purpose: Purpose): Place {
    return placeOf(this.#deps.home, url, purpose);
  }

  /**
   * Sockets for a URL. For an address that must not be dialled:
   * @throws {CodedError} `BACKEND_DOWN` with the reason {@link REDIRECT_REFUSED}, `UPSTREAM_DENIED` where it is a token service's
   */
  for(url: URL, purpose: Purpose): Dispatcher {
    const place = this.placeOf(url, purpose);
    if (isAddress(url.hostname)) this.#check(url.hostname, [url.hostname], place, purpose);
    else if (/(?:^|\.)localhost$/.test(url.hostname))
      this.#check(url.hostname, ['127.0.0.1'], place, purpose);
    const proxy = this.#deps.proxyFor(url);
    // One pool for each kind of place: a connection that one of them may use is not handed to another.
    const isHome =
      portOf(url) === portOf(this.#deps.home.base) && url.hostname === this.#deps.home.base.hostname;
    const member = isHome ? this.#deps.member : undefined;
    const key = JSON.stringify([proxy?.url ?? '', place, purpose, member !== undefined]);
    const tls = this.#deps.tls?.current() ?? NO_TLS;
    return this.#pools.get(key, { tls, proxy }, (terms) => this.#create(place, purpose, terms, member));
  }

  /** Cuts all connections. Idempotent. */
  async destroy(reason: CodedError): Promise<void> {
    this.#closed ??= reason;
    await this.#pools.destroy(reason);
  }

  #create(
    place: Place,
    purpose: Purpose,
    { tls, proxy }: PoolTerms,
    member: MemberDialling | undefined,
  ): Dispatcher {
    if (this.#closed !== undefined) throw this.#closed;
    const { connections, connectTimeoutMs, insecure } = this.#options;
    const { ca, certificate, key } = tls;
    // A certificate shows who we are: to the registry and those that may see its credentials.
    const isKnown = place !== 'foreign' && certificate !== undefined;
    return createDispatcher({
      connections,
      connectTimeoutMs,
      insecure,
      readsBodies: true,
      encryption: member?.encryption,
      furtherAddresses: member?.furtherAddresses,
      ...(ca === undefined ? {} : { ca }),
      ...(isKnown ? { certificate } : {}),
      ...(isKnown && key !== undefined ? { key } : {}),
      ...(proxy === undefined ? { lookup: this.#lookup(place, purpose) } : { proxy }),
    });
  }

  #lookup(place: Place, purpose: Purpose): LookupFunction {
    const resolve = this.#names.find;
    return (hostname, options, done) => {
      const find = (): void =>
        resolve(hostname, (error, found) => {
          if (error !== null) return done(error, []);
          try {
            const addresses = found.map(({ address }) => address);
            const allowed = new Set(this.#check(hostname, addresses, place, purpose));
            const usable = found.filter((one) => allowed.has(one.address));
            answerLookup(hostname, usable, options, done);
          } catch (refused) {
            throwIfBug(refused);
            return done(refused as NodeJS.ErrnoException, []);
          }
        });
      if (this.#own !== undefined || place === 'origin') return find();
      // Whoever speaks to the token service first has not met the registry yet: where that is, is asked then.
      resolve(this.#deps.home.base.hostname, (error, found) => {
        if (error === null) this.#own ??= ownClass(found.map(({ address }) => classOf(address)));
        find();
      });
    };
  }

  /** Those of the addresses that may be dialled. @throws {CodedError} as {@link for} if none may */
  #check(hostname: string, addresses: readonly string[], place: Place, purpose: Purpose): readonly string[] {
    const classes = addresses.map(classOf);
    if (place === 'origin') this.#own = ownClass(classes);
    const allowed = addresses.filter((_, at) => mayDial(place, classes[at]!, this.#own));
    if (allowed.length > 0 || addresses.length === 0) return allowed;
    const { upstream } = this.#deps;
    const [kind] = classes;
    const what = purpose === 'realm' ? 'token service' : 'redirect';
    const message = `${what} ${hostname} of upstream ${upstream} is at a ${WORDS[kind!]} address; not asked (if that is right, list it in ${purpose}-hosts of the upstream)`;
    const detail = { upstream, host: hostname };
    // Without a token nobody is let in; where a redirect leads says nothing about who may read.
    if (purpose === 'realm')
      throw new CodedError('UPSTREAM_DENIED', { message, detail: { ...detail, reason: ADDRESS_REFUSED } });
    throw new CodedError('BACKEND_DOWN', { message, detail: { ...detail, reason: REDIRECT_REFUSED } });
  }
}

const WORDS: Readonly<Record<AddressClass, string>> = {
  public: 'public',
  private: 'private',
  local: 'loopback or link-local',
  never: 'meaningless',
};

function ownClass(classes: readonly AddressClass[]): AddressClass | undefined {
  return classes.includes('private') ? 'private' : classes[0];
}

function portOf({ port, protocol }: URL): string {
  return port || (protocol === 'https:' ? '443' : '80');
}
