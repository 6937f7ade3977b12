import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readdirSync, rmSync, writeSync } from 'node:fs';
import { join, resolve } from 'node:path';
import {
  type PushedImage,
  pullUntilGiven,
  pushUntilTaken,
  randomImage,
} from '@sepia/test-support/clients/registry-client';
import { until, untilAnswered } from '@sepia/test-support/until';
import { Up, type UpMember } from '@sepia/test-support/up';
import t from 'tap';

const SEPIA = resolve(import.meta.dirname, '../../../sepia');
const REPOSITORY = 'team/app';
/** A member that was killed counts again only once its records are whole; on a busy machine that takes its time. */
const OWED_MS = 240_000;
/** `sepia status` ends with this when every member is ready and nothing is owed. */
const ALL_READY = /^All \d+ members are ready\.$/m;

/** Origins that are killed and started again one by one, beside a cluster that goes on. */
class Origins {
  readonly #up: Up;
  readonly #pids: Map<string, number>;
  readonly #children: ChildProcess[] = [];

  constructor(up: Up) {
    this.#up = up;
    this.#pids = new Map(up.cluster.origins.map(({ name, pid }) => [name, pid]));
  }

  async kill({ name }: UpMember): Promise<void> {
    const pid = this.#pids.get(name)!;
    process.kill(pid, 'SIGKILL');
    await until(() => !isRunning(pid), `${name} is dead`);
  }

  start({ name, config }: UpMember, ...args: string[]): void {
    const child = spawn(SEPIA, ['origin', '--config', config, ...args], { stdio: 'ignore' });
    this.#children.push(child);
    this.#pids.set(name, child.pid!);
  }

  dataOf({ name }: UpMember): string {
    return join(this.#up.dir, 'members', name);
  }

  async stopAll(): Promise<void> {
    for (const child of this.#children) {
      if (child.exitCode !== null || child.signalCode !== null) continue;
      const ended = new Promise((settle) => child.once('exit', settle));
      child.kill('SIGTERM');
      await ended;
    }
  }
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}

async function readyz({ adminUrl }: UpMember): Promise<string> {
  return await fetch(`${adminUrl}/readyz`).then(
    async (answer) => `${answer.status} ${await answer.text()}`,
    () => 'silent',
  );
}

/** Until every origin says that it is ready and warns of nothing. */
async function untilNothingOwed(origins: readonly UpMember[]): Promise<void> {
  let last: string[] = [];
  await until(
    async () => {
      last = await Promise.all(origins.map(readyz));
      return last.every((one) => one === '200 ok\n');
    },
    'nothing is owed',
    OWED_MS,
  ).catch((error: unknown) => {
    throw new Error(`${String(error)}: ${last.join(' | ')}`);
  });
}

async function status(up: Up): Promise<string> {
  const child = spawn(SEPIA, ['status', '--cluster', join(up.dir, 'cluster.json')]);
  let text = '';
  child.stdout.on('data', (chunk: Buffer) => {
    text += chunk.toString();
  });
  await new Promise((settle) => child.once('close', settle));
  return text;
}

async function push(up: Up, tags: readonly string[]): Promise<[string, PushedImage][]> {
  const pushed: [string, PushedImage][] = [];
  for (const tag of tags) {
    const image = randomImage([300_000, 2_000]);
    await pushUntilTaken(() => up.cluster.proxies[0]!.url, REPOSITORY, tag, image);
    pushed.push([tag, image]);
  }
  return pushed;
}

/** What is not as it was acknowledged, through each proxy. As a client does, a 503 is tried again. */
async function faults(up: Up, pushed: ReadonlyMap<string, PushedImage>): Promise<string[]> {
  const found: string[] = [];
  for (const { name, url } of up.cluster.proxies)
    for (const [tag, image] of pushed) {
      const fault = await faultOf(url, tag, image);
      if (fault !== undefined) found.push(`${tag} by ${name}: ${fault}`);
    }
  return found;
}

async function faultOf(url: string, tag: string, image: PushedImage): Promise<string | undefined> {
  const answer = await untilAnswered(async () => {
    const asked = await fetch(`${url}/v2/${REPOSITORY}/manifests/${tag}`);
    await asked.arrayBuffer();
    return asked;
  }, `${tag} is told of at ${url}`);
  const digest = answer.headers.get('docker-content-digest');
  if (answer.status !== 200 || digest !== image.manifestDigest) return `${answer.status} ${digest}`;
  return await pullUntilGiven(url, REPOSITORY, tag).then(
    () => undefined,
    (error: unknown) => String(error),
  );
}

/** Writes nonsense into the middle of every file of a database. */
function damage(db: string): void {
  for (const name of readdirSync(db)) {
    if (!/\.(ldb|log)$|^MANIFEST/.test(name)) continue;
    const file = openSync(join(db, name), 'r+');
    writeSync(file, Buffer.alloc(40, 0xa5), 0, 40, 40);
    closeSync(file);
  }
}

t.test('members away, disks emptied one after another, a damaged database: nothing is lost', async (t) => {
  const topology = ['--origins', '3', '--proxies', '2', '--trackers', '1', '--agents', '1'];
  await using up = await Up.start(join(t.testdir(), 'data'), [...topology, '--ports-from', '24500']);
  const origins = new Origins(up);
  t.teardown(async () => await origins.stopAll());
  const [first, second, third] = up.cluster.origins as [UpMember, UpMember, UpMember];
  const all = [first, second, third];
  const old = Array.from({ length: 4 }, (_, at) => `old${at}`);
  const pushed = new Map(await push(up, old));
  await untilNothingOwed(all);

  await origins.kill(third);
  for (const [tag, image] of await push(up, [...old, ...old.map((tag) => `new-${tag}`)]))
    pushed.set(tag, image);
  await until(async () => /^200 ok\nwarning: under-replicated/.test(await readyz(first)), 'it is told');
  await until(async () => /under-replicated: /.test(await status(up)), 'in the status too');
  origins.start(third);
  await untilNothingOwed(all);
  await until(async () => ALL_READY.test(await status(up)), 'the status says that all are ready');

  await origins.kill(first);
  rmSync(origins.dataOf(first), { recursive: true });
  origins.start(first);
  await untilNothingOwed(all);
  t.same(await faults(up, pushed), [], 'the member that was away had got everything');

  for (const member of [second, third, first]) {
    await origins.kill(member);
    rmSync(origins.dataOf(member), { recursive: true });
    origins.start(member);
    await untilNothingOwed(all);
  }
  t.same(await faults(up, pushed), [], 'every disk was replaced');

  await origins.kill(second);
  await origins.kill(third);
  damage(join(origins.dataOf(second), 'v1', 'db'));
  origins.start(second);
  await until(async () => /^503 waiting for records/.test(await readyz(second)), 'it does not count');
  origins.start(third);
  await untilNothingOwed(all);
  await origins.kill(first);
  rmSync(origins.dataOf(first), { recursive: true });
  origins.start(first);
  await untilNothingOwed(all);
  t.same(await faults(up, pushed), [], 'who had a damaged database can hand over');
});
