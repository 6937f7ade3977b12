import { backoffMs } from '@sepia/base/async/backoff';
import { chance } from '@sepia/base/clock/chance';
import type { TextSource } from '@sepia/base/config/live-texts';
import { CodedError, isCoded, systemCode } from '@sepia/base/errors';
import { ignoreFailure, logFailure, throwIfBug } from '@sepia/base/failure';
import { delay, pause } from '@sepia/base/lifecycle';
import type { Logger } from '@sepia/base/log';
import pg from 'pg';
import {
  CONNECT_MS,
  DATABASE_DEADLINE_MS,
  DOWN_DEADLINE_MS,
  IDLE_MS,
  MAX_RETRY_MS,
  MAX_RETURN_MS,
  RETRY_MS,
  SERVER_LIMIT_MS,
} from '../../deadlines.ts';
import { type DatabaseFailure, databaseFailure, mayBeDone } from './core/database-failure.ts';
import { tryLimitMs } from './core/try-limit.ts';
import { liveDatabaseUrl, placeOf } from './database-url.ts';
import { type Ask, migrate } from './schema.ts';

/** Connections of one origin, and requests that may wait for one. */
const CONNECTIONS = 16;
const MAX_WAITING = 2_000;
/** SQLSTATEs of a database that lets nobody of us in: authorization, no such database. */
const REFUSES_US = /^(?:28|3D)/;
/** What to do where the role may not make or change the schema. */
const RIGHTS =
  '; the schema is made, and brought up after an upgrade, by one start as the owner of the database (docs/records.md)';
const SILENT = "the records' database does not answer";

/** SQLSTATEs of a primary that answers, and takes no writes: it is read-only, or our role has lost its rights. */
const TAKES_NO_WRITES: ReadonlySet<string> = new Set(['25006', '42501']);

/**
 * How it stands with the database, as reasons in words that name it, for the operator alone. `away`: nothing is answered.
 * `noWrites`: reads are, nothing can be written.
 */
export interface DatabaseState {
  readonly away: string | undefined;
  readonly noWrites: string | undefined;
  readonly waiting: number;
  readonly retries: number;
}

interface DatabaseOptions {
  /** `postgres://user:password@host:port/database`, or the file that holds it; never logged. */
  readonly url: TextSource;
}

/**
 * The primary of a PostgreSQL, by a pool of connections. What is asked is tried again on other connections until its
 * deadline, unless the database refuses it; a standby, or one that may forget what it acknowledged, is never asked.
 */
export class PostgresDatabase {
  readonly #log: Logger;
  readonly #pool: pg.Pool;
  readonly #checked = new WeakSet<pg.PoolClient>();
  readonly #url: () => string;
  readonly #name: string;
  readonly #closed = new AbortController();
  #away: string | undefined;
  #noWrites: string | undefined;
  #returning: Promise<void> | undefined;
  #retries = 0;

  private constructor(deps: { readonly log: Logger }, { url }: DatabaseOptions) {
    this.#log = deps.log;
    const urlNow = liveDatabaseUrl({ ...deps, nowMs: () => performance.now() }, url);
    this.#url = urlNow;
    this.#name = placeOf(urlNow());
    // Each connection by the address of its time: passwords are renewed.
    const Client = class extends pg.Client {
      constructor() {
        super(connectionOf(urlNow()));
      }
    };
    this.#pool = new pg.Pool({
      Client,
      connectionTimeoutMillis: CONNECT_MS,
      max: CONNECTIONS,
      idleTimeoutMillis: IDLE_MS,
    });
    const onBroken = (err: Error): void => this.#log.debug({ err }, 'a connection to the database broke');
    // While it is idle the pool tells, while it is in use the connection itself; what was asked on it fails, too.
    this.#pool.on('error', onBroken);
    this.#pool.on('connect', (client) => client.on('error', onBroken));
  }

  /**
   * Connects, and makes the schema where there is none. Tries until `deadlineMs` while nobody answers.
   * @throws `START_FAILED` with the reason, `DISK_FORMAT` of a newer schema
   */
  static async open(
    deps: { readonly log: Logger },
    options: DatabaseOptions & { readonly deadlineMs?: number },
  ): Promise<PostgresDatabase> {
    const database = new PostgresDatabase(deps, options);
    try {
      await database.run(async (ask) => await migrate(ask), options);
      return database;
    } catch (cause) {
      await database.close();
      if (!isCoded(cause, 'QUORUM_LOST')) throw cause;
      const said = database.state.away ?? database.state.noWrites ?? cause.message;
      const message = stateOf(cause.cause) === '42501' ? `${said}${RIGHTS}` : said;
      throw new CodedError('START_FAILED', { message, detail: cause.detail, cause });
    }
  }

  get state(): DatabaseState {
    return {
      away: this.#away,
      noWrites: this.#noWrites,
      waiting: this.#pool.waitingCount,
      retries: this.#retries,
    };
  }

  /** For a connection that listens. */
  newClient(): pg.Client {
    return new pg.Client(connectionOf(this.#url()));
  }

  /**
   * Runs `task` on one connection, again where nobody answered or another change came between: it must bear that.
   * `askedAtMs`: since when its caller waits, if not since now (by `performance.now`).
   * @throws `QUORUM_LOST` with the reason when that did not end in time or was refused, what `task` throws
   */
  async run<T>(
    task: (ask: Ask) => Promise<T>,
    limits: { readonly deadlineMs?: number; readonly askedAtMs?: number } = {},
  ): Promise<T> {
    const nowMs = performance.now();
    const { deadlineMs = DATABASE_DEADLINE_MS, askedAtMs = nowMs } = limits;
    const untilMs = this.#away === undefined ? nowMs + deadlineMs : askedAtMs + DOWN_DEADLINE_MS;
    if (nowMs >= untilMs) throw new CodedError('QUORUM_LOST', { message: SILENT });
    let readOnly: unknown;
    for (let tries = 1; ; tries++) {
      try {
        const answer = await this.#try(task, tryLimitMs(untilMs - performance.now()));
        this.#answered();
        return answer;
      } catch (error) {
        throwIfBug(error);
        if (isCoded(error) && error.code !== 'BACKEND_DOWN') throw error;
        const failure = databaseFailure(stateOf(error));
        const waitMs = backoffMs(tries, RETRY_MS, MAX_RETRY_MS) * (0.5 + chance());
        this.#retries += 1;
        if (isReadOnly(error)) readOnly = error;
        const isHopeless = failure === 'refusal' || (this.#noWrites !== undefined && isReadOnly(error));
        if (!isHopeless && performance.now() + waitMs < untilMs) await delay(waitMs);
        // The last try may have been too short for an answer.
        else if (readOnly !== undefined) throw this.#writesNothing(readOnly);
        else throw this.#lost(error, failure);
      }
    }
  }

  async close(): Promise<void> {
    this.#closed.abort(new CodedError('DRAINING'));
    await this.#returning;
    await this.#pool.end();
  }

  /** `limitMs`: for the connection and for all that `task` asks. */
  async #try<T>(task: (ask: Ask) => Promise<T>, limitMs: number): Promise<T> {
    const untilMs = performance.now() + limitMs;
    const client = await this.#connected(limitMs);
    let isBroken = true;
    try {
      const ask: Ask = async (text, values) => {
        const query_timeout = Math.max(1, Math.ceil(untilMs - performance.now()));
        const query = { text, query_timeout, ...(values === undefined ? {} : { values }) };
        return (await client.query<Record<string, unknown>>(query)).rows;
      };
      if (!this.#checked.has(client)) {
        await checkPrimary(ask);
        this.#checked.add(client);
      }
      const answer = await task(ask);
      isBroken = false;
      return answer;
    } catch (error) {
      // In a function's own transaction nothing is left open: such a connection goes on.
      isBroken = stateOf(error) !== '40001';
      throw error;
    } finally {
      client.release(isBroken);
    }
  }

  async #connected(limitMs: number): Promise<pg.PoolClient> {
    if (this.#pool.waitingCount >= MAX_WAITING)
      throw new CodedError('QUORUM_LOST', {
        message: `${MAX_WAITING} requests wait for a connection to the records' database already`,
      });
    const connecting = this.#pool.connect();
    const ended = new AbortController();
    try {
      const late = pause(limitMs, ended.signal).then(() => undefined);
      const client = await Promise.race([connecting, late]);
      if (client !== undefined) return client;
    } finally {
      ended.abort(new CodedError('TIMEOUT'));
    }
    connecting.then((client) => client.release(), ignoreFailure);
    throw new CodedError('BACKEND_DOWN', { message: `no connection to it within ${Math.round(limitMs)} ms` });
  }

  #answered(): void {
    if (this.#away !== undefined) this.#log.info({ database: this.#name }, 'the database answers again');
    this.#away = undefined;
  }

  /**
   * Asks a database that is away, or takes no writes, with all the time there is, until it answers and takes them: one that
   * is slow comes back, too.
   */
  async #untilBack(): Promise<void> {
    const { signal } = this.#closed;
    for (let tries = 1; this.#away !== undefined || this.#noWrites !== undefined; tries++) {
      if (!(await pause(backoffMs(tries, RETRY_MS, MAX_RETURN_MS), signal))) return;
      try {
        await this.#try(async (ask) => await ask('SELECT 1 FROM sepia_schema'), CONNECT_MS);
        this.#answered();
        if (this.#noWrites === undefined) continue;
        await this.#try(requireWritable, CONNECT_MS);
        this.#log.info({ database: this.#name }, 'the database takes writes again');
        this.#noWrites = undefined;
      } catch (error) {
        logFailure(this.#log, error, 'the database is still away', { tries }, 'debug');
      }
    }
    this.#returning = undefined;
  }

  #lost(cause: unknown, failure: DatabaseFailure): CodedError {
    if (failure === 'contended')
      return new CodedError('CONFLICT', {
        message: 'other changes of these records kept coming between',
        cause,
      });
    if (TAKES_NO_WRITES.has(stateOf(cause) ?? '')) return this.#writesNothing(cause);
    const verb = failure === 'refusal' ? 'refuses' : 'does not answer';
    const message = failure === 'refusal' ? "the records' database refuses" : SILENT;
    const error = new CodedError('QUORUM_LOST', { message, cause });
    // It refuses this statement, not us: others are answered.
    if (failure === 'refusal' && !REFUSES_US.test(stateOf(cause) ?? '')) return error;
    if (this.#away === undefined)
      this.#log.error({ err: cause, database: this.#name }, 'records are not reachable');
    this.#away = `the records' database ${this.#name} ${verb}: ${reasonOf(cause)}`;
    this.#returning ??= this.#untilBack();
    return error;
  }

  /** Reads go on; what may write again is asked on connections made anew, since settings hold for a connection's life. */
  #writesNothing(cause: unknown): CodedError {
    if (this.#noWrites === undefined)
      this.#log.error({ err: cause, database: this.#name }, 'records cannot be written');
    this.#noWrites = `the records' database ${this.#name} takes no writes: ${reasonOf(cause)}`;
    this.#returning ??= this.#untilBack();
    return new CodedError('QUORUM_LOST', { message: "the records' database takes no writes", cause });
  }
}

function isReadOnly(thrown: unknown): boolean {
  return stateOf(thrown) === '25006';
}

/** @throws `BACKEND_DOWN` unless a new transaction of this connection may write all that we write. */
async function requireWritable(ask: Ask): Promise<void> {
  const [found] = await ask(
    "SELECT current_setting('transaction_read_only') = 'off' AND has_table_privilege('sepia_records', 'SELECT') AND has_table_privilege('sepia_records', 'INSERT') AND has_table_privilege('sepia_records', 'UPDATE') AND has_table_privilege('sepia_records', 'DELETE') AS writable",
  );
  if (found?.['writable'] !== true) throw new CodedError('BACKEND_DOWN', { message: 'it takes no writes' });
}

/** Those that take any text; SQL_ASCII takes bytes as they are. */
const ENCODINGS: ReadonlySet<string> = new Set(['UTF8', 'SQL_ASCII']);

/** What a new connection must be: the primary, and one that keeps what it acknowledges. */
async function checkPrimary(ask: Ask): Promise<void> {
  const [found] = await ask(
    "SELECT pg_is_in_recovery() AS standby, current_setting('fsync') AS fsync, current_setting('server_version_num')::int AS version, current_setting('server_encoding') AS encoding",
  );
  if (found?.['standby'] === true)
    throw new CodedError('BACKEND_DOWN', { message: 'it is a standby, not the primary' });
  if (found?.['fsync'] !== 'on')
    throw new CodedError('START_FAILED', {
      message: 'the database runs with fsync off: what it acknowledges may be lost; set fsync = on',
    });
  if (Number(found['version']) < 130_000)
    throw new CodedError('START_FAILED', { message: 'the database is older than PostgreSQL 13' });
  const encoding = String(found['encoding']);
  if (!ENCODINGS.has(encoding))
    throw new CodedError('START_FAILED', {
      message: `the database has encoding ${encoding}, which cannot hold every name and annotation: make it anew with ENCODING 'UTF8'`,
    });
  await ask("SET synchronous_commit = 'on'");
}

function connectionOf(url: string): pg.ClientConfig {
  return {
    connectionString: url,
    application_name: 'sepia',
    connectionTimeoutMillis: CONNECT_MS,
    query_timeout: DATABASE_DEADLINE_MS,
    statement_timeout: SERVER_LIMIT_MS,
    keepAlive: true,
  };
}

/** True if a write that failed with this error may have been committed nevertheless, or may still be. */
export function isInDoubt(thrown: unknown): boolean {
  return !isCoded(thrown) && mayBeDone(stateOf(thrown));
}

function stateOf(thrown: unknown): string | undefined {
  return thrown instanceof pg.DatabaseError ? thrown.code : undefined;
}

function reasonOf(thrown: unknown): string {
  const { message } = thrown as { readonly message?: unknown };
  const said = typeof message === 'string' && message !== '' ? message : undefined;
  return said ?? systemCode(thrown) ?? 'the connection broke';
}
