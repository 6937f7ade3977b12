import { spawn } from 'node:child_process';

/** One transfer as curl saw it. */
export interface Transfer {
  readonly status: number;
  readonly bytes: number;
  readonly seconds: number;
  readonly firstByteSeconds: number;
}

export interface CurlOptions {
  /** Network namespace to run in. */
  readonly namespace?: string;
  readonly args?: readonly string[];
  readonly signal?: AbortSignal;
  /** Told the process that runs. */
  readonly onStart?: (pid: number) => void;
  /** Longest run in seconds; 900 if left out. */
  readonly maxSeconds?: number;
}

/** GETs a URL to nowhere. @throws {Error} unless the answer is 200 and as long as its header says, except when aborted */
export async function curl(url: string, options: CurlOptions = {}): Promise<Transfer> {
  const args = [
    '--silent',
    '--show-error',
    '--max-time',
    String(options.maxSeconds ?? 900),
    '--output',
    '/dev/null',
    '--write-out',
    '%{http_code} %{size_download} %{time_total} %{time_starttransfer}',
    ...(options.args ?? []),
    url,
  ];
  const { code, stdout, stderr } = await runIn(options.namespace, 'curl', args, options);
  const [status = 0, bytes = 0, seconds = 0, firstByteSeconds = 0] = stdout.split(' ').map(Number);
  if ((code !== 0 || status !== 200) && options.signal?.aborted !== true)
    throw new Error(`curl ${url}: exit ${code}, status ${status}, ${bytes} bytes in ${seconds} s: ${stderr}`);
  return { status, bytes, seconds, firstByteSeconds };
}

/** The SHA-256 of what a URL answers, in hex. */
export async function sha256Of(url: string, namespace?: string): Promise<string> {
  const script = 'set -o pipefail; curl --silent --show-error --fail --max-time 900 "$1" | sha256sum';
  const { code, stdout, stderr } = await runIn(namespace, 'bash', ['-c', script, 'bash', url]);
  if (code !== 0) throw new Error(`${url}: ${stderr}`);
  return stdout.slice(0, 64);
}

async function runIn(
  namespace: string | undefined,
  command: string,
  args: readonly string[],
  { signal, onStart }: Pick<CurlOptions, 'signal' | 'onStart'> = {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const [file, all] =
    namespace === undefined
      ? [command, args]
      : ['nsenter', [`--net=/run/netns/${namespace}`, '--', command, ...args]];
  return await new Promise((resolve, reject) => {
    const child = spawn(file, all, { stdio: ['ignore', 'pipe', 'pipe'] });
    if (child.pid !== undefined) onStart?.(child.pid);
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk) => {
      stdout += chunk;
    });
    child.stderr.on('data', (chunk) => {
      stderr += chunk;
    });
    const kill = (): void => {
      child.kill('SIGKILL');
    };
    signal?.addEventListener('abort', kill, { once: true });
    child.once('error', reject);
    child.once('close', (code) => {
      signal?.removeEventListener('abort', kill);
      resolve({ code, stdout, stderr });
    });
  });
}
