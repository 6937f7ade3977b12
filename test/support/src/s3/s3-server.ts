import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { builtProgram } from '../built-program.ts';
import { freePorts } from '../free-ports.ts';
import { until } from '../until.ts';

const SCRIPT = join(import.meta.dirname, 'versitygw.sh');
const READY_MS = 60_000;

/** Credentials that the server takes. */
export const S3_CREDENTIALS = { accessKeyId: 'sepia-test', secretAccessKey: 'sepia-test-secret' } as const;
/** The same for processes. */
export const S3_ENV = {
  AWS_ACCESS_KEY_ID: S3_CREDENTIALS.accessKeyId,
  AWS_SECRET_ACCESS_KEY: S3_CREDENTIALS.secretAccessKey,
} as const;

/** As `noPostgres`, of the S3 server. */
export function noS3(): string | false {
  if (process.env['SEPIA_PROCESSES'] !== '1') return 'starts an S3 server: npm run test:processes';
  if (program() !== undefined || process.env['CI'] === 'true') return false;
  return `the S3 server is not built; ${SCRIPT} does`;
}

/** An S3 server (versitygw on a folder) of a test's own, on a port of loopback. */
export class S3Server {
  readonly port: number;
  readonly #dir: string;
  readonly #program: string;
  #child: ChildProcess | undefined;

  private constructor(program: string, dir: string, port: number) {
    this.#program = program;
    this.#dir = dir;
    this.port = port;
  }

  /** Starts it, with no bucket. Stop it with {@link remove}. */
  static async start(): Promise<S3Server> {
    const found = program();
    if (found === undefined) throw new Error(`the S3 server is not built; ${SCRIPT} does`);
    const dir = mkdtempSync(join(tmpdir(), 'sepia-s3-'));
    for (const name of ['data', 'meta']) mkdirSync(join(dir, name));
    const [port] = await freePorts(1);
    const server = new S3Server(found, dir, port!);
    await server.resume();
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Where its objects lie as files: `BUCKET/KEY`. */
  get files(): string {
    return join(this.#dir, 'data');
  }

  makeBucket(name: string): void {
    mkdirSync(join(this.files, name));
  }

  /** Starts it again with what it has on its disk. */
  async resume(): Promise<void> {
    const { accessKeyId, secretAccessKey } = S3_CREDENTIALS;
    const listen = ['--port', `127.0.0.1:${this.port}`, '--access', accessKeyId, '--secret', secretAccessKey];
    const args = [
      ...listen,
      '--quiet',
      '--keep-alive',
      'posix',
      '--sidecar',
      join(this.#dir, 'meta'),
      this.files,
    ];
    this.#child = spawn(this.#program, args, { stdio: 'ignore', cwd: this.#dir });
    await until(async () => await this.#answers(), 'the S3 server accepts connections', READY_MS);
  }

  /** Ends it at once. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise<void>((resolve) => child.once('exit', () => resolve()));
    child.kill('SIGKILL');
    await ended;
  }

  /** Ends it and takes its folder away. */
  async remove(): Promise<void> {
    await this.kill();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  async #answers(): Promise<boolean> {
    if (this.#child?.exitCode !== null) throw new Error(`the S3 server ended with ${this.#child?.exitCode}`);
    return await new Promise<boolean>((resolve) => {
      const socket = connect(this.port, '127.0.0.1', () => resolve(true));
      socket.once('error', () => resolve(false));
      socket.once('connect', () => socket.destroy());
    });
  }
}

/** Path of the program, or undefined where it was not built. */
function program(): string | undefined {
  return builtProgram(SCRIPT);
}
