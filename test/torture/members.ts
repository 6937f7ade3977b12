import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { delay } from '@sepia/base/lifecycle';
import { Up, type UpMember } from '@sepia/test-support/up';
import { memberEnv, nodeFlags } from '../../cli/src/up/node-flags.ts';
import { ask } from './client.ts';
import type { Preload } from './sabotage/sabotage.ts';

const FAKETIME = [
  '/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1',
  '/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1',
].find((file) => existsSync(file));
const READY_MS = 180_000;

/** True if clocks can be set wrong here. */
export const HAS_FAKETIME = FAKETIME !== undefined;

type Role = 'origin' | 'tracker' | 'proxy' | 'agent';

export interface Member {
  readonly name: string;
  readonly role: Role;
  readonly url: string;
  readonly adminUrl: string;
  readonly dataDir: string;
}

interface ClusterOptions {
  readonly origins: number;
  /** What members of one role load first, to break them. */
  readonly preload: Preload | undefined;
  /** Database of the records; undefined: they rest on the origins. */
  readonly recordsUrl: string | undefined;
  readonly encrypted: boolean;
}

/** The processes of a cluster: started by `sepia up`, those that were killed started again by hand. */
export class Members {
  readonly all: readonly Member[];
  readonly #up: Up;
  readonly #found: ReadonlyMap<string, UpMember & { readonly role: Role }>;
  readonly #pids = new Map<string, number>();
  readonly #children = new Map<string, ChildProcess>();
  readonly #preload: Preload | undefined;

  private constructor(up: Up, preload: Preload | undefined) {
    this.#up = up;
    this.#preload = preload;
    const { origins, trackers, proxies, agents } = up.cluster;
    const named = (role: Role, list: readonly UpMember[]) => list.map((one) => ({ ...one, role }));
    const found = [
      ...named('origin', origins),
      ...named('tracker', trackers),
      ...named('proxy', proxies),
      ...named('agent', agents),
    ];
    this.#found = new Map(found.map((one) => [one.name, one]));
    for (const { name, pid } of found) this.#pids.set(name, pid);
    this.all = found.map(({ name, role, url, adminUrl }) => ({
      name,
      role,
      url,
      adminUrl,
      dataDir: join(up.dir, 'members', name),
    }));
  }

  static async start(dir: string, options: ClusterOptions): Promise<Members> {
    const { origins, preload, recordsUrl, encrypted } = options;
    const shape = ['--origins', String(origins), '--trackers', '1', '--proxies', '2', '--agents', '1'];
    const records = recordsUrl === undefined ? [] : ['--records', recordsUrl];
    const encryption = encrypted ? ['--encryption', 'require'] : [];
    const up = await Up.start(dir, [...shape, ...records, ...encryption, '--ports-from', '29500']);
    const members = new Members(up, preload);
    if (preload !== undefined)
      for (const { name, role } of members.all)
        if (role === preload.role) {
          members.kill(name);
          await members.gone(name);
          members.begin(name);
        }
    for (const { name } of members.all) await members.ready(name);
    return members;
  }

  of(role: Role): Member[] {
    return this.all.filter((one) => one.role === role);
  }

  get(name: string): Member {
    return this.all.find((one) => one.name === name)!;
  }

  /** `kill -9`, or another signal. */
  kill(name: string, signal: NodeJS.Signals = 'SIGKILL'): void {
    try {
      process.kill(-this.#pids.get(name)!, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }

  /** Until the process of a member that was killed is gone. */
  async gone(name: string): Promise<void> {
    for (;;) {
      try {
        process.kill(this.#pids.get(name)!, 0);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
        return;
      }
      await delay(10);
    }
  }

  /** Until a member answers at all, ready or not. */
  async answers(name: string): Promise<void> {
    const { adminUrl } = this.get(name);
    const deadline = performance.now() + READY_MS;
    while ((await ask('GET', `${adminUrl}/livez`, { timeoutMs: 2_000 })).status !== 200) {
      if (performance.now() > deadline) throw new Error(`${name} does not answer`);
      await delay(100);
    }
  }

  /** Starts a member that was killed. `clock`: a file that says how far its clock is off. */
  begin(name: string, clock?: string): void {
    const { role, config, log: file } = this.#found.get(name)!;
    const log = openSync(file, 'a');
    const clocked =
      clock === undefined
        ? {}
        : {
            LD_PRELOAD: FAKETIME,
            FAKETIME_TIMESTAMP_FILE: clock,
            FAKETIME_NO_CACHE: '1',
            DONT_FAKE_MONOTONIC: '1',
          };
    const flags = this.#preload?.role === role ? ['--import', this.#preload.module] : [];
    const main = fileURLToPath(import.meta.resolve(`@sepia/${role}/main`));
    const child = spawn(process.execPath, [...nodeFlags(role), ...flags, main, '--config', config], {
      detached: true,
      stdio: ['ignore', log, log],
      env: { ...memberEnv(process.env, process.pid), ...clocked },
    });
    closeSync(log);
    this.#pids.set(name, child.pid!);
    this.#children.set(name, child);
  }

  /** Sets the clock of a member that was begun with this file. */
  setClock(file: string, offsetS: number): void {
    writeFileSync(file, `${offsetS < 0 ? '' : '+'}${offsetS}s\n`);
  }

  /** Until it says that it is ready. @throws when it does not in time */
  async ready(name: string): Promise<void> {
    const { adminUrl } = this.get(name);
    const deadline = performance.now() + READY_MS;
    for (;;) {
      const answer = await ask('GET', `${adminUrl}/readyz`, { timeoutMs: 2_000 });
      if (answer.status === 200) return;
      if (performance.now() > deadline)
        throw new Error(`${name} does not come back: ${answer.status} ${answer.body.toString()}`);
      await delay(100);
    }
  }

  /** Values of the metrics of a member whose names begin so; undefined if it does not answer. */
  async metrics(name: string, prefix: string): Promise<ReadonlyMap<string, number> | undefined> {
    const answer = await ask('GET', `${this.get(name).adminUrl}/metrics`, { timeoutMs: 5_000 });
    if (answer.status !== 200) return undefined;
    const lines = answer.body.toString('utf8').split('\n');
    const found = lines.filter((line) => line.startsWith(prefix)).map((line) => line.split(' '));
    return new Map(found.map(([key = '', value]) => [key, Number(value)]));
  }

  async stop(): Promise<void> {
    const ended = [...this.#children.values()].map(
      (child) =>
        new Promise<void>((resolve) => {
          if (child.exitCode !== null || child.signalCode !== null) resolve();
          else child.once('exit', () => resolve());
        }),
    );
    for (const name of this.#children.keys()) this.kill(name);
    await Promise.all(ended);
    await this.#up.stop();
  }
}
