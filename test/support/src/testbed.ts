import { type ExecFileException, execFile } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { accessSync, cpSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';
import { until } from './until.ts';

/** Folder with the scripts that run real clients; `SEPIA_TESTBED` names another than the one beside the project. */
export const TESTBED =
  process.env['SEPIA_TESTBED'] ?? resolve(import.meta.dirname, '../../../../shared/testbed');

/** Longest run of one client command, in ms. */
const COMMAND_MS = 300_000;
/** Longest run of a script of the test bed, in ms: images are made from files of up to 500 MB. */
const SCRIPT_MS = 600_000;
/** Exit code of what its time limit ended, as that of timeout(1). */
const LATE_CODE = 124;
const MAX_OUTPUT = 64 * 1024 * 1024;

export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command to its end, at most `limitMs`; never throws for an exit code. What was ended says so on stderr. */
export async function run(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  limitMs = COMMAND_MS,
): Promise<Output> {
  return await new Promise((settle) => {
    execFile(
      command,
      [...args],
      { env: { ...process.env, ...env }, timeout: limitMs, maxBuffer: MAX_OUTPUT },
      (error: ExecFileException | null, stdout, stderr) => {
        settle({ stdout, ...endOf(error, stderr, limitMs) });
      },
    );
  });
}

function endOf(
  error: ExecFileException | null,
  stderr: string,
  limitMs: number,
): Pick<Output, 'code' | 'stderr'> {
  if (error === null) return { code: 0, stderr };
  // Too much output is the other reason to be killed by execFile, and has a code of its own.
  if (error.killed === true && typeof error.code !== 'string')
    return { code: LATE_CODE, stderr: `${stderr}\nended at its time limit of ${limitMs / 1_000} s\n` };
  const code = typeof error.code === 'number' ? error.code : 1;
  return { code, stderr: stderr === '' ? error.message : stderr };
}

/** As {@link run}, but a failure throws with all output. */
export async function must(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
  limitMs = COMMAND_MS,
): Promise<Output> {
  return succeeded(command, args, await run(command, args, env, limitMs));
}

function succeeded(command: string, args: readonly string[], output: Output): Output {
  if (output.code !== 0)
    throw new Error(
      `${command} ${args.join(' ')} ended with ${output.code}\n${output.stdout}\n${output.stderr}`,
    );
  return output;
}

/** As {@link must}, of what may be run twice: skopeo asks nobody again who answers 503, as members that are busy do. */
export async function mustOnceAnswered(command: string, args: readonly string[]): Promise<Output> {
  const output = await until(
    async () => {
      const one = await run(command, args);
      return /\b503 Service Unavailable\b/.test(one.stderr) ? undefined : one;
    },
    `${command} ${args.join(' ')} is answered`,
    COMMAND_MS,
  );
  return succeeded(command, args, output);
}

/** Runs a script of the test bed. `TESTBED_DIR` is short, because sockets live there. */
export async function testbed(script: string, args: readonly string[]): Promise<Output> {
  return await must(`${TESTBED}/${script}`, args, {}, SCRIPT_MS);
}

/** Stops what a script started; failures are shown, not thrown. */
export async function quietly(script: string, args: readonly string[]): Promise<void> {
  const output = await run(`${TESTBED}/${script}`, args);
  if (output.code !== 0) process.stderr.write(`${script} ${args.join(' ')}: ${output.stderr}\n`);
}

/** Why the real clients cannot run here, or undefined. */
export function whyNoClients(): string | undefined {
  if (process.getuid?.() !== 0) return 'needs root';
  try {
    accessSync(`${TESTBED}/containerd.sh`);
    return undefined;
  } catch {
    return `no test bed at ${TESTBED}; set SEPIA_TESTBED`;
  }
}

/** Where ports are looked for: below those that the system takes for outgoing connections, beside all that tests name. */
const FREE_PORTS = [10_000, 14_998] as const;
const PORT_TRIES = 100;

/** Arguments of a podman that keeps all it has in this folder. */
export function podmanStorage(folder: string): string[] {
  return ['--root', join(folder, 's'), '--runroot', join(folder, 'r'), '--storage-driver', 'vfs'];
}

/** A port that was free a moment ago, as was the next one, which some clients take for themselves. */
export async function freePort(): Promise<number> {
  for (let tries = 0; tries < PORT_TRIES; tries++) {
    const port = randomInt(...FREE_PORTS);
    if ((await isFree(port)) && (await isFree(port + 1))) return port;
  }
  throw new Error(`no two free ports from ${FREE_PORTS.join(' to ')}`);
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  const isBound = await new Promise<boolean>((settle, fail) => {
    server.once('error', (error: NodeJS.ErrnoException) =>
      error.code === 'EADDRINUSE' ? settle(false) : fail(error),
    );
    server.listen(port, '0.0.0.0', () => settle(true));
  });
  if (isBound) await new Promise((settle) => server.close(settle));
  return isBound;
}

/**
 * Starts docker-registry in a folder of its own and returns that; stopped and removed at the end of the test. It is
 * no folder of the test's: those go before the script looks there for what to stop. `storage`: what it has from the start.
 */
export async function startRegistry(
  t: { teardown(done: () => unknown): void },
  port: number,
  storage?: string,
): Promise<string> {
  const folder = mkdtempSync('/tmp/sepia-registry-');
  const registry = join(folder, 'registry');
  t.teardown(async () => {
    await quietly('registry.sh', ['stop', registry]);
    rmSync(folder, { recursive: true, force: true });
  });
  if (storage !== undefined) cpSync(storage, join(registry, 'data'), { recursive: true });
  await testbed('registry.sh', ['start', registry, String(port)]);
  return registry;
}
