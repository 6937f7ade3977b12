import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { delay } from '@sepia/base/lifecycle';
import { until } from './until.ts';

const ROOT = resolve(import.meta.dirname, '../../..');
const START_MS = 150_000;
/** `sepia up` gives a restarted member 60 s, and after that another try. */
const BACK_MS = 180_000;
const STOP_MS = 90_000;

/** A member as `cluster.json` names it. */
export interface UpMember {
  readonly name: string;
  readonly url: string;
  readonly adminUrl: string;
  readonly peers: readonly string[];
  readonly pid: number;
  readonly log: string;
  readonly config: string;
}

interface ClusterFile {
  readonly version: number;
  readonly proxies: readonly UpMember[];
  readonly trackers: readonly UpMember[];
  readonly origins: readonly UpMember[];
  readonly agents: readonly UpMember[];
  readonly accelerators: readonly UpMember[];
  readonly snapshotters: readonly UpMember[];
}

/** A cluster of real processes, run by `sepia up`. */
export class Up {
  readonly cluster: ClusterFile;
  readonly #child: ChildProcess;
  readonly #dir: string;

  private constructor(child: ChildProcess, dir: string, cluster: ClusterFile) {
    this.#child = child;
    this.#dir = dir;
    this.cluster = cluster;
  }

  /** Runs `sepia up --data DIR` with further arguments and waits for `cluster.json`. */
  static async start(dir: string, args: readonly string[]): Promise<Up> {
    const child = spawn(join(ROOT, 'sepia'), ['up', '--data', dir, ...args], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let output = '';
    const keep = (chunk: Buffer): void => {
      output = (output + chunk.toString('utf8')).slice(-20_000);
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    const file = join(dir, 'cluster.json');
    const deadline = Date.now() + START_MS;
    while (!existsSync(file)) {
      if (child.exitCode !== null || Date.now() > deadline) {
        child.kill('SIGKILL');
        throw new Error(`sepia up did not start (exit ${child.exitCode})\n${output}`);
      }
      await delay(50);
    }
    return new Up(child, dir, JSON.parse(readFileSync(file, 'utf8')) as ClusterFile);
  }

  /** A member as `cluster.json` names it now: a restarted one has another pid than at first. */
  member(name: string): UpMember {
    const now = JSON.parse(readFileSync(join(this.#dir, 'cluster.json'), 'utf8')) as ClusterFile;
    const { origins, trackers, proxies, agents, accelerators } = now;
    const found = [...origins, ...trackers, ...proxies, ...agents, ...accelerators].find(
      (one) => one.name === name,
    );
    if (found === undefined) throw new Error(`no member ${name} in cluster.json`);
    return found;
  }

  /** Resolves when another process than `killedPid` runs as this member and says that it is ready. */
  async back({ name, adminUrl }: UpMember, killedPid: number): Promise<void> {
    await until(
      async () => {
        if (this.member(name).pid === killedPid) return false;
        return await fetch(`${adminUrl}/readyz`).then(
          (answer) => answer.ok,
          () => false,
        );
      },
      `${name} is back`,
      BACK_MS,
    );
  }

  /** Bytes that an agent counted, by source. */
  async bytesOf(agent: UpMember): Promise<Record<string, number>> {
    return await metricBySource(agent.adminUrl, 'sepia_agent_bytes_total');
  }

  /** Stops everything; resolves with the exit code. */
  async stop(): Promise<number | null> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return this.#child.exitCode;
    const ended = new Promise<number | null>((settle) => this.#child.once('exit', settle));
    this.#child.kill('SIGTERM');
    const late = setTimeout(() => this.#child.kill('SIGKILL'), STOP_MS);
    const code = await ended;
    clearTimeout(late);
    return code;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  get dir(): string {
    return this.#dir;
  }
}

/** Values of a metric by its `source` label. */
export async function metricBySource(adminUrl: string, name: string): Promise<Record<string, number>> {
  const text = await (await fetch(`${adminUrl}/metrics`)).text();
  const found: Record<string, number> = {};
  for (const line of text.split('\n')) {
    if (!line.startsWith(`${name}{`)) continue;
    const source = /source="(\w+)"/.exec(line)?.[1] ?? '';
    found[source] = Number(line.slice(line.lastIndexOf(' ') + 1));
  }
  return found;
}
