import { createHmac, randomBytes } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { SingleFlight } from '@sepia/base/async/single-flight';
import { Slots } from '@sepia/base/async/slots';
import { CodedError, systemCode } from '@sepia/base/errors';
import { ExpiringMap } from '@sepia/base/expiring-map';
import { logFailure, throwIfBug, tryParse } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { BasicCredentials } from '@sepia/face/access/authorization';
import { FORMER_MS, RELOAD_MS, REMEMBER_MS } from '../deadlines.ts';
import { bcrypt } from './bcrypt.ts';

const MAX_REMEMBERED = 10_000;
/** Passwords computed at once, off the event loop; more wait, too many are refused. */
const MAX_COMPUTING = 2;
const MAX_WAITING = 64;
/** 2^14 rounds take about a second: more would let a few logins hold the machine. */
const MAX_COST = 14;
const MAX_PASSWORD_BYTES = 1024;

interface AccountsDeps {
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly clusterKey: Uint8Array;
}

/** Accounts of an htpasswd file (`name:$2y$…`, bcrypt only), read again when it changes. */
export class Accounts {
  readonly #deps: AccountsDeps;
  readonly #file: string;
  /** Key of the memory of right passwords: nothing of them can be told from a dump of it. */
  readonly #key = randomBytes(32);
  readonly #right = new ExpiringMap<true>(MAX_REMEMBERED);
  readonly #running = new SingleFlight<string, boolean>();
  /** When a name went. */
  readonly #former = new ExpiringMap<number>(MAX_REMEMBERED);
  readonly #slots = new Slots({
    slots: MAX_COMPUTING,
    limits: { queueLimit: MAX_WAITING, refusal: tooMany },
  });
  #hashes: ReadonlyMap<string, string>;
  #version = '';
  #lookedAtMs: number;
  /** What an unknown name is compared with, so that it takes as long as a known one. */
  readonly #nobody: Promise<string>;

  /** @throws {CodedError} `CONFIG_INVALID` that names the line */
  constructor(deps: AccountsDeps, file: string) {
    this.#deps = deps;
    this.#file = file;
    // The version first: a file that is replaced in between is read again.
    this.#version = versionOf(file);
    this.#hashes = readAccounts(file);
    this.#lookedAtMs = deps.nowMs();
    const cost = Math.max(4, ...[...this.#hashes.values()].map((one) => bcrypt().parseOptions(one).cost));
    this.#nobody = bcrypt().hash(randomBytes(16).toString('hex'), { cost });
  }

  get size(): number {
    return this.#hashes.size;
  }

  /** The same for files with the same lines, and for nobody without the cluster key. */
  get fingerprint(): string {
    this.#look();
    const lines = [...this.#hashes].map(([name, one]) => `${name}:${one}`).sort();
    return createHmac('sha256', this.#deps.clusterKey)
      .update(['sepia-accounts-1', ...lines].join('\n'))
      .digest('hex')
      .slice(0, 32);
  }

  has(username: string): boolean {
    this.#look();
    return this.#hashes.has(username);
  }

  /**
   * True of a name that went from the file within the last hour, tokens of it live no longer than that, and was not back at the
   * next look: a file that is rewritten in place lacks names for a moment.
   */
  isGone(username: string): boolean {
    if (this.has(username)) return false;
    const nowMs = this.#deps.nowMs();
    const goneMs = this.#former.get(username, nowMs);
    return goneMs !== undefined && nowMs - goneMs >= RELOAD_MS;
  }

  /** As {@link has}; also of a name that went from the file within the last hour. */
  hadLately(username: string): boolean {
    return this.has(username) || this.#former.get(username, this.#deps.nowMs()) !== undefined;
  }

  /** True if this password was right a moment ago. */
  remembers(credentials: BasicCredentials): boolean {
    this.#look();
    return this.#right.get(this.#memoryKey(credentials), this.#deps.nowMs()) !== undefined;
  }

  /** @throws {CodedError} `OVERLOADED` when too many passwords wait to be computed */
  async verify(credentials: BasicCredentials): Promise<boolean> {
    if (this.remembers(credentials)) return true;
    if (Buffer.byteLength(credentials.password) > MAX_PASSWORD_BYTES) return false;
    const key = this.#memoryKey(credentials);
    return await this.#running.share(key, async () => await this.#compute(credentials));
  }

  /** What is right is remembered by the line that it was compared with: the file may have changed since it was asked for. */
  async #compute(credentials: BasicCredentials): Promise<boolean> {
    const { username, password } = credentials;
    return await this.#slots.run(async () => {
      const known = this.#hashes.get(username);
      const key = this.#memoryKey(credentials);
      const isRight = await bcrypt().verify(password, known ?? (await this.#nobody));
      if (!isRight || known === undefined) return false;
      this.#right.set(key, true, this.#deps.nowMs() + REMEMBER_MS);
      return true;
    });
  }

  #memoryKey({ username, password }: BasicCredentials): string {
    const text = [username, password, this.#hashes.get(username) ?? ''].join('\0');
    return createHmac('sha256', this.#key).update(text).digest('base64url');
  }

  /** Reads the file again if it changed; one that cannot be read leaves what is known. */
  #look(): void {
    const nowMs = this.#deps.nowMs();
    if (nowMs - this.#lookedAtMs < RELOAD_MS) return;
    this.#lookedAtMs = nowMs;
    try {
      const version = versionOf(this.#file);
      if (version === this.#version) return;
      const found = readAccounts(this.#file);
      // A file that is rewritten in place is empty for a moment.
      if (found.size === 0 && this.#hashes.size > 0) throw invalid(`${this.#file}: has no account left`);
      for (const name of this.#hashes.keys())
        if (!found.has(name)) this.#former.set(name, nowMs, nowMs + FORMER_MS);
      this.#hashes = found;
      this.#version = version;
      this.#deps.log.info({ file: this.#file, accounts: this.#hashes.size }, 'accounts were read again');
    } catch (error) {
      const facts = { file: this.#file };
      logFailure(this.#deps.log, error, 'accounts-file is not usable; the old accounts stay', facts, 'error');
    }
  }
}

/** The accounts of an htpasswd file by name. @throws {CodedError} `CONFIG_INVALID` that names the line */
export function readAccounts(file: string): ReadonlyMap<string, string> {
  return parseHtpasswd(readText(file), file);
}

/** Accounts by name. @throws {CodedError} `CONFIG_INVALID` that names the line, never its content */
export function parseHtpasswd(text: string, file: string): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const fault = faultOf(line, found);
    if (fault !== undefined) throw invalid(`${file}: line ${index + 1} ${fault}`);
    const colon = line.indexOf(':');
    found.set(line.slice(0, colon), line.slice(colon + 1));
  }
  return found;
}

function faultOf(line: string, before: ReadonlyMap<string, string>): string | undefined {
  const [, name = '', hashed = ''] = /^([^:]+):(.+)$/.exec(line) ?? [];
  if (name === '') return 'is not name:hash';
  if (before.has(name)) return 'names an account twice';
  if (name === '*' || name === 'anonymous' || name.startsWith('group:'))
    return 'has a name that rules keep for others';
  const cost = costOf(hashed);
  if (cost === undefined) return 'has no bcrypt hash; make one with: htpasswd -nB NAME';
  return cost > MAX_COST ? `has cost ${cost}; at most ${MAX_COST} is taken` : undefined;
}

function costOf(hashed: string): number | undefined {
  const { parseOptions } = bcrypt();
  const read = tryParse(() => parseOptions(hashed).cost);
  return read.ok ? read.value : undefined;
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throwIfBug(cause);
    throw invalid(`${file} cannot be read (${systemCode(cause)})`, cause);
  }
}

function versionOf(file: string): string {
  const { mtimeMs, size, ino } = statSync(file);
  return `${mtimeMs}.${size}.${ino}`;
}

function invalid(message: string, cause?: unknown): CodedError {
  return new CodedError('CONFIG_INVALID', { message: `accounts-file: ${message}`, cause });
}

function tooMany(): CodedError {
  return new CodedError('OVERLOADED', {
    message: 'too many logins at once; try again later',
    detail: { retryAfterSeconds: 2 },
  });
}
