import { CodedError } from '@sepia/base/errors';

const HASH_BYTES = 20;
/** Keys of one query that are read, and its longest text; more is refused. */
const MAX_KEYS = 64;
const MAX_CHARS = 4_096;
/** Scraped at once (BEP 48). */
const MAX_SCRAPED = 32;
/** Ports below are for system services: nobody is sent there because of an announce. */
const FIRST_PORT = 1_024;
const LAST_PORT = 65_535;

/** Undefined: one of the announces in between (BEP 3). */
export type AnnounceEvent = 'started' | 'stopped' | 'completed' | undefined;

/** What a standard client says of itself (BEP 3). */
export interface Announce {
  /** 40 hex. */
  readonly infoHash: string;
  /** 40 hex. */
  readonly peerId: string;
  /** Undefined: it takes no connections, or at a port that nobody is sent to; it dials. */
  readonly port: number | undefined;
  /** Bytes that it lacks; 0: it has everything. Undefined: it does not know, so it lacks something. */
  readonly left: number | undefined;
  readonly event: AnnounceEvent;
  readonly numwant: number;
  readonly compact: boolean;
  /** It wants no ids of peers in a list that is not compact. */
  readonly noPeerId: boolean;
}

/** Which blob the announce URL of a torrent names. */
export interface NamedBlob {
  readonly digest: string;
  readonly upstream: string;
  readonly repository: string;
}

/** A query string as bytes: `info_hash` is no text, so each character of a value is one byte. @throws `REQUEST_INVALID` */
export function parseBinaryQuery(query: string): ReadonlyMap<string, readonly string[]> {
  if (query.length > MAX_CHARS) throw invalid('the query is too long');
  const found = new Map<string, string[]>();
  const parts = query.split('&').filter((part) => part !== '');
  if (parts.length > MAX_KEYS) throw invalid('the query has too many keys');
  for (const part of parts) {
    const at = part.indexOf('=');
    const key = unescapeBytes(at < 0 ? part : part.slice(0, at));
    const value = unescapeBytes(at < 0 ? '' : part.slice(at + 1));
    const others = found.get(key);
    if (others === undefined) found.set(key, [value]);
    else others.push(value);
  }
  return found;
}

/** @throws {CodedError} `REQUEST_INVALID` that names the key */
export function parseAnnounce(query: ReadonlyMap<string, readonly string[]>): Announce {
  const port = numberOf(query, 'port', Number.MAX_SAFE_INTEGER);
  if (port === undefined) throw invalid('port is missing');
  const event = query.get('event')?.[0] ?? '';
  return {
    infoHash: hashOf(query, 'info_hash'),
    peerId: hashOf(query, 'peer_id'),
    port: port >= FIRST_PORT && port <= LAST_PORT ? port : undefined,
    left: numberOf(query, 'left', Number.MAX_SAFE_INTEGER),
    event: event === 'started' || event === 'stopped' || event === 'completed' ? event : undefined,
    numwant: numberOf(query, 'numwant', 50) ?? 50,
    compact: query.get('compact')?.[0] !== '0',
    noPeerId: query.get('no_peer_id')?.[0] === '1',
  };
}

/** The infohashes that are asked about, 40 hex each. @throws `REQUEST_INVALID` */
export function parseScrape(query: ReadonlyMap<string, readonly string[]>): readonly string[] {
  const hashes = query.get('info_hash') ?? [];
  if (hashes.length > MAX_SCRAPED) throw invalid(`at most ${MAX_SCRAPED} info_hash at once`);
  return hashes.map((bytes) => hexOf(bytes, 'info_hash'));
}

/** The blob that the announce URL names; undefined where it names none. */
export function namedBlob(query: ReadonlyMap<string, readonly string[]>): NamedBlob | undefined {
  const [digest, upstream, repository] = ['digest', 'upstream', 'repository'].map(
    (key) => query.get(key)?.[0],
  );
  if (digest === undefined || upstream === undefined || repository === undefined) return undefined;
  return { digest, upstream, repository };
}

function hashOf(query: ReadonlyMap<string, readonly string[]>, key: string): string {
  return hexOf(query.get(key)?.[0] ?? '', key);
}

function hexOf(bytes: string, key: string): string {
  if (bytes.length !== HASH_BYTES) throw invalid(`${key} must have 20 bytes`);
  return Buffer.from(bytes, 'latin1').toString('hex');
}

function numberOf(
  query: ReadonlyMap<string, readonly string[]>,
  key: string,
  max: number,
): number | undefined {
  const text = query.get(key)?.[0];
  if (text === undefined || text === '') return undefined;
  // Clients send -1 for "as many as you like", and for "I do not know".
  if (text === '-1') return undefined;
  if (!/^\d{1,20}$/.test(text)) throw invalid(`${key} is not a number`);
  return Math.min(max, Number(text));
}

/** Each `%XX` is one byte, `+` a space; what stands as it is must be ASCII. */
function unescapeBytes(text: string): string {
  if (!/^[\x20-\x7e]*$/.test(text)) throw invalid('the query has characters that must be escaped');
  return text
    .replaceAll('+', ' ')
    .replace(/%([0-9a-f]{2})/gi, (_all, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

function invalid(message: string): CodedError {
  return new CodedError('REQUEST_INVALID', { message });
}
