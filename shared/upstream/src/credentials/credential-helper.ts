import { type ChildProcess, type ExecFileException, execFile } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import { boundedMs } from '@sepia/base/bounded-ms';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug, tryParse } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import {
  HELPER_FAILED_MS,
  HELPER_KEPT_MS,
  HELPER_KILLED_MS,
  HELPER_MS,
  LEAST_HELPER_KEPT_MS,
  MOST_HELPER_KEPT_MS,
} from '../deadlines/upstreams.ts';
import { expiryOfSecret } from './expiry.ts';
import { type CredentialSource, type Credentials, isSame } from './source.ts';

const MAX_OUTPUT_BYTES = 256 * 1024;
/** Renewed when this share of their life is left. */
const RENEW_SHARE = 0.1;
/** What helpers print for a registry that they know nothing of (docker-credential-helpers, `credentials/error.go`). */
const NOT_FOUND = /credentials not found|no credentials/i;
/** What may follow `docker-credential-` in the name of a program that is run: no path, no option. */
const HELPER_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;

interface HelperDeps {
  readonly log: Logger;
  readonly nowMs: () => number;
  readonly dateMs: () => number;
  readonly env: Readonly<Record<string, string | undefined>>;
}

interface HelperOptions {
  /** `ecr-login` for the program `docker-credential-ecr-login`. */
  readonly name: string;
  /** What the helper is asked for: the registry's address as it is known to docker. */
  readonly server: string;
  /** The config key that names the helper, for messages. */
  readonly key: string;
  /** Until it is killed, and from then until it is left. */
  readonly waitMs?: number;
  readonly killedMs?: number;
  readonly start?: Start;
}

type Ended = (error: ExecFileException | null, stdout: string) => void;
type Start = (program: string, options: object, onEnd: Ended) => ChildProcess;

const startProgram: Start = (program, options, onEnd) => execFile(program, ['get'], options, onEnd);

/**
 * Credentials from a program of the `docker-credential-*` protocol: `get`, the server on its standard input, JSON with
 * `Username` and `Secret` on its output. One process a lookup, however many wait for it; what it gave is kept until
 * shortly before its end, and let go when it is refused. One that the kernel does not let go, also when it is killed, is left
 * to itself: nobody waits for it, and until it has ended none is started.
 */
export class CredentialHelper implements CredentialSource {
  readonly #deps: HelperDeps;
  readonly #options: HelperOptions;
  readonly #program: string;
  #known: { readonly credentials: Credentials | undefined; readonly untilMs: number } | undefined;
  #failed: { readonly error: CodedError; readonly untilMs: number } | undefined;
  #running: Promise<Credentials | undefined> | undefined;
  /** The kernel hangs in one. */
  #isHanging = false;

  /** @throws {CodedError} `CONFIG_INVALID` that names the key, when there is no such program */
  constructor(deps: HelperDeps, options: HelperOptions) {
    this.#deps = deps;
    this.#options = options;
    const program = `docker-credential-${options.name}`;
    const found = HELPER_NAME.test(options.name) ? findProgram(program, deps.env['PATH'] ?? '') : undefined;
    if (found === undefined)
      throw new CodedError('CONFIG_INVALID', {
        message: `${options.key}: there is no program ${program.slice(0, 100)} in PATH`,
      });
    this.#program = found;
  }

  async current(): Promise<Credentials | undefined> {
    const nowMs = this.#deps.nowMs();
    if (this.#known !== undefined && this.#known.untilMs > nowMs) return this.#known.credentials;
    if (this.#failed !== undefined && this.#failed.untilMs > nowMs) throw this.#failed.error;
    this.#running ??= this.#look().finally(() => {
      this.#running = undefined;
    });
    return await this.#running;
  }

  refused(credentials: Credentials): void {
    if (isSame(credentials, this.#known?.credentials)) this.#known = undefined;
  }

  async #look(): Promise<Credentials | undefined> {
    const { name, server, key } = this.#options;
    const { log, nowMs, dateMs } = this.#deps;
    try {
      const credentials = await this.#run(server);
      this.#known = { credentials, untilMs: nowMs() + keepMs(credentials, dateMs()) };
      this.#failed = undefined;
      return credentials;
    } catch (error) {
      if (!isCoded(error)) throw error;
      log.error({ helper: name, reason: error.message }, `${key} gave no credentials`);
      this.#failed = { error, untilMs: nowMs() + HELPER_FAILED_MS };
      throw error;
    }
  }

  async #run(server: string): Promise<Credentials | undefined> {
    const { name, waitMs = HELPER_MS, killedMs = HELPER_KILLED_MS, start = startProgram } = this.#options;
    const failed = (why: string): CodedError =>
      new CodedError('BACKEND_DOWN', {
        message: `credential helper ${name} failed for ${server}: ${why}`,
        detail: { helper: name },
      });
    if (this.#isHanging) throw failed('the kernel hangs in it since it was killed');
    return await new Promise((resolve, reject) => {
      // It may not heed any other signal.
      const killed = { timeout: waitMs, killSignal: 'SIGKILL' };
      const options = { ...killed, maxBuffer: MAX_OUTPUT_BYTES, env: this.#deps.env };
      const child = start(this.#program, options, (error, stdout) => {
        clearTimeout(leave);
        const text = String(stdout);
        if (error === null) return settle(() => resolve(credentialsOf(text, name)), reject);
        if (NOT_FOUND.test(text)) return resolve(undefined);
        const isKilled = error.killed === true;
        reject(failed(isKilled ? `no answer within ${waitMs} ms` : reasonOf(error, text)));
      });
      const leave = setTimeout(
        () => {
          this.#isHanging = true;
          child.once('exit', () => {
            this.#isHanging = false;
          });
          // Neither it nor its pipes keep this process.
          child.unref();
          for (const pipe of [child.stdin, child.stdout, child.stderr]) pipe?.destroy();
          reject(failed(`no answer within ${waitMs} ms, and the kernel hangs in it`));
        },
        boundedMs(waitMs + killedMs),
      );
      // A helper that is gone before it read is told by its exit.
      child.stdin?.on('error', () => undefined);
      child.stdin?.end(`${server}\n`);
    });
  }
}

function settle(act: () => void, reject: (error: unknown) => void): void {
  try {
    act();
  } catch (error) {
    reject(error);
  }
}

function credentialsOf(text: string, name: string): Credentials {
  const parsed = tryParse(() => JSON.parse(text) as unknown);
  const value = parsed.ok ? parsed.value : undefined;
  const { Username: username, Secret: password } = (value ?? {}) as Record<string, unknown>;
  if (typeof username !== 'string' || typeof password !== 'string')
    throw new CodedError('BACKEND_DOWN', {
      message: `credential helper ${name} did not print JSON with Username and Secret`,
      detail: { helper: name },
    });
  return username === '<token>' ? { username, password, isIdentityToken: true } : { username, password };
}

/** How long credentials are kept. */
function keepMs(credentials: Credentials | undefined, dateMs: number): number {
  const endMs = credentials === undefined ? undefined : expiryOfSecret(credentials.password);
  if (endMs === undefined) return HELPER_KEPT_MS;
  return Math.min(MOST_HELPER_KEPT_MS, Math.max(LEAST_HELPER_KEPT_MS, (endMs - dateMs) * (1 - RENEW_SHARE)));
}

function findProgram(program: string, path: string): string | undefined {
  return path
    .split(delimiter)
    .filter((folder) => folder !== '')
    .map((folder) => join(folder, program))
    .find(isExecutable);
}

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch (error) {
    throwIfBug(error);
    // Not there, or not ours to run: the next folder.
    return false;
  }
}

/** What a helper says of its failure; an answer, or a part of one, has a secret in it and is not told. */
function reasonOf({ code }: ExecFileException, text: string): string {
  if (code === 'ERR_CHILD_PROCESS_STDIO_MAXBUFFER') return `it printed more than ${MAX_OUTPUT_BYTES} bytes`;
  const line = (text.split('\n')[0] ?? '').trim().slice(0, 200);
  return line === '' || /^\{|"Secret"/i.test(line) ? `exit ${code}` : line;
}
