import { type ExecFileException, execFile } from 'node:child_process';
import { accessSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join, resolve } from 'node:path';

/** Folder with the scripts that run real clients; `SEPIA_TESTBED` names another than the one beside the project. */
export const TESTBED =
  process.env['SEPIA_TESTBED'] ?? resolve(import.meta.dirname, '../../../../shared/testbed');

/** Longest run of one client command, in ms. */
const COMMAND_MS = 180_000;
const MAX_OUTPUT = 64 * 1024 * 1024;

export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a command to its end; never throws for an exit code. */
export async function run(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Output> {
  return await new Promise((settle) => {
    execFile(
      command,
      [...args],
      { env: { ...process.env, ...env }, timeout: COMMAND_MS, maxBuffer: MAX_OUTPUT },
      (error: ExecFileException | null, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
        settle({ code, stdout, stderr: error !== null && stderr === '' ? error.message : stderr });
      },
    );
  });
}

/** As {@link run}, but a failure throws with all output. */
export async function must(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Output> {
  const output = await run(command, args, env);
  if (output.code !== 0)
    throw new Error(
      `${command} ${args.join(' ')} ended with ${output.code}\n${output.stdout}\n${output.stderr}`,
    );
  return output;
}

/** Runs a script of the test bed. `TESTBED_DIR` is short, because sockets live there. */
export async function testbed(script: string, args: readonly string[]): Promise<Output> {
  return await must(`${TESTBED}/${script}`, args);
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

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((settle) => server.listen(0, '127.0.0.1', settle));
  const { port } = server.address() as { port: number };
  await new Promise((settle) => server.close(settle));
  return port;
}

/**
 * Starts docker-registry in a folder of its own and returns that; stopped and removed at the end of the test. It is
 * no folder of the test's: those go before the script looks there for what to stop.
 */
export async function startRegistry(
  t: { teardown(done: () => unknown): void },
  port: number,
  ...options: readonly string[]
): Promise<string> {
  const folder = mkdtempSync('/tmp/sepia-registry-');
  const registry = join(folder, 'registry');
  t.teardown(async () => {
    await quietly('registry.sh', ['stop', registry]);
    rmSync(folder, { recursive: true, force: true });
  });
  await testbed('registry.sh', ['start', registry, String(port), ...options]);
  return registry;
}
