import { spawn } from 'node:child_process';

/** Milliseconds that something took. */
export async function timed(task: () => Promise<unknown>): Promise<number> {
  const from = performance.now();
  await task();
  return Math.round(performance.now() - from);
}

/** Milliseconds until a command printed its first line. @throws {Error} unless it ends with 0 and printed one */
export async function untilFirstLine(command: string, args: readonly string[]): Promise<number> {
  const from = performance.now();
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  let stdout = '';
  let stderr = '';
  let atMs: number | undefined;
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
    if (stdout.includes('\n')) atMs ??= Math.round(performance.now() - from);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
  });
  const code = await new Promise<number | null>((settle) => child.once('close', settle));
  if (code !== 0 || atMs === undefined) throw new Error(`${command}: exit ${code}, ${stdout}${stderr}`);
  return atMs;
}
