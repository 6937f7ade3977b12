import { spawn } from 'node:child_process';
import { join, resolve } from 'node:path';
import { throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import { pullImage, pushImage, randomImage } from '@sepia/test-support/clients/registry-client';
import { noPostgres, PostgresServer } from '@sepia/test-support/postgres';
import { until } from '@sepia/test-support/until';
import { Up } from '@sepia/test-support/up';
import t from 'tap';

const SEPIA = resolve(import.meta.dirname, '../../../sepia');
const REPOSITORIES = 6;
const TAGS = REPOSITORIES * 2;
/** One origin is killed meanwhile: `sepia up` gives it 60 s to be back. */
const CHANGE_MS = 240_000;
const ASK_EVERY_MS = 500;
/** Pushes go on all the while, and leave the change itself some of the machine. */
const PUSH_EVERY_MS = 50;
const TOPOLOGY = ['--proxies', '2', '--trackers', '1', '--agents', '1', '--restart', '--ports-from', '23000'];
/** A pull that a 503 ended is tried again, as clients do. */
const MAX_TRIES = 120;

/** What was acknowledged last under each tag, and what was ever sent without an answer: it may yet be written, behind that. */
class Tags {
  readonly #known = new Map<string, string>();
  readonly #unsure = new Map<string, string[]>();
  refused = 0;

  async push(up: Up, at: number): Promise<void> {
    const repository = `team/app${at % REPOSITORIES}`;
    const tag = `v${Math.floor(at / REPOSITORIES) % 2}`;
    const name = `${repository}:${tag}`;
    const image = randomImage([100_000, 2_000]);
    const { proxies } = up.cluster;
    try {
      await pushImage(() => proxies[at % proxies.length]!.url, repository, tag, image);
      this.#known.set(name, image.manifestDigest);
    } catch (error) {
      // A client does not know then whether the tag moved.
      throwIfBug(error);
      this.refused += 1;
      this.#unsure.set(name, [...(this.#unsure.get(name) ?? []), image.manifestDigest]);
    }
  }

  /** Each tag once, again while a member that just started has no time. */
  async fill(up: Up): Promise<void> {
    for (let at = 0; at < TAGS; at++)
      await until(async () => {
        await this.push(up, at);
        return this.#known.size > at;
      }, `push ${at} is taken`);
  }

  get size(): number {
    return this.#known.size;
  }

  /** Tags that are lost or stale, and blobs that do not pull, by each proxy. */
  async faults(up: Up): Promise<string[]> {
    const found: string[] = [];
    for (const { url, name: proxy } of up.cluster.proxies)
      for (const [name, last] of this.#known) {
        const [repository, tag] = name.split(':') as [string, string];
        let fault: string | undefined = 'not asked';
        for (let tries = 0; tries < MAX_TRIES && fault !== undefined; tries++) {
          if (tries > 0) await delay(500);
          fault = await faultOf(url, repository, tag, [last, ...(this.#unsure.get(name) ?? [])]);
          if (fault?.includes('503') === false) break;
        }
        if (fault !== undefined) found.push(`${name} by ${proxy}: ${fault}`);
      }
    return found;
  }
}

async function faultOf(
  url: string,
  repository: string,
  tag: string,
  digests: readonly string[],
): Promise<string | undefined> {
  const answer = await fetch(`${url}/v2/${repository}/manifests/${tag}`);
  await answer.arrayBuffer();
  const digest = answer.headers.get('docker-content-digest');
  if (answer.status !== 200) return `status ${answer.status}`;
  if (digest === null || !digests.includes(digest)) return `stale: ${digest}`;
  return await pullImage(url, repository, tag).then(
    () => undefined,
    (error: unknown) => String(error),
  );
}

async function ring(up: Up, ...args: string[]): Promise<{ code: number | null; text: string }> {
  const child = spawn(SEPIA, ['ring', ...args, '--cluster', join(up.dir, 'cluster.json')]);
  let text = '';
  const keep = (chunk: Buffer): void => {
    text += chunk.toString();
  };
  child.stdout.on('data', keep);
  child.stderr.on('data', keep);
  const code = await new Promise<number | null>((settle) => child.once('close', settle));
  return { code, text };
}

/** A change under pushes, with kill -9 of `victim` in the middle of it. */
async function changeWithKill(up: Up, tags: Tags, victim: string, ...args: string[]): Promise<void> {
  const begun = await ring(up, ...args, '--no-wait');
  if (begun.code !== 0) throw new Error(begun.text);
  let isOver = false;
  const pushing = (async () => {
    for (let at = 0; !isOver; at++) {
      await tags.push(up, at);
      await delay(PUSH_EVERY_MS);
    }
  })();
  try {
    await delay(500);
    process.kill(up.member(victim).pid, 'SIGKILL');
    let last = '';
    await until(
      async () => {
        // Each question is a process, beside the change that is waited for.
        await delay(ASK_EVERY_MS);
        const { code, text } = await ring(up, 'status');
        last = text;
        return code === 0;
      },
      'the change is over',
      CHANGE_MS,
    ).catch((error: unknown) => {
      throw new Error(`${String(error)}\n${last}`);
    });
  } finally {
    isOver = true;
    await pushing;
  }
}

t.test('3 → 6 → 3 under pushes, an origin killed in each change: nothing is lost or stale', async (t) => {
  const dir = join(t.testdir(), 'data');
  const tags = new Tags();
  {
    await using up = await Up.start(dir, ['--origins', '3', ...TOPOLOGY]);
    await tags.fill(up);
    t.equal(tags.size, TAGS);
  }
  const joining = ['origin-4', 'origin-5', 'origin-6'];
  {
    await using up = await Up.start(dir, ['--origins', '6', ...TOPOLOGY]);
    t.same(await tags.faults(up), [], 'more origins in the document change nothing by themselves');
    await changeWithKill(up, tags, 'origin-2', 'add', ...joining);
    t.same(await tags.faults(up), [], 'six of them');
    await changeWithKill(up, tags, 'origin-5', 'drain', ...joining);
    t.same(await tags.faults(up), [], 'drained');
    const removed = await ring(up, 'remove', ...joining);
    t.equal(removed.code, 0, removed.text);
  }
  await using up = await Up.start(dir, ['--origins', '3', ...TOPOLOGY]);
  t.same(await tags.faults(up), [], 'three again');
  t.comment(`${tags.refused} pushes were refused meanwhile`);
});

t.test('with records on PostgreSQL blobs move, records do not', { skip: noPostgres() }, async (t) => {
  const server = await PostgresServer.start();
  t.teardown(async () => await server.remove());
  const dir = join(t.testdir(), 'data');
  const topology = ['--origins', '4', ...TOPOLOGY.slice(0, -1), '23500', '--records', server.url];
  const tags = new Tags();
  await using up = await Up.start(dir, topology);
  await tags.fill(up);
  await changeWithKill(up, tags, 'origin-2', 'drain', 'origin-4');
  t.same(await tags.faults(up), [], 'three of them');
  await changeWithKill(up, tags, 'origin-3', 'add', 'origin-4');
  t.same(await tags.faults(up), [], 'four again');
  const records = (): string =>
    server.sql(
      "SELECT count(*), md5(string_agg(encode(key, 'hex') || value, ',' ORDER BY key)) FROM sepia_records",
    );
  const before = records();
  t.match(before, /^[1-9]\d+\|/);
  const drained = await ring(up, 'drain', 'origin-1');
  t.equal(drained.code, 0, drained.text);
  const removed = await ring(up, 'remove', 'origin-1');
  t.equal(removed.code, 0, removed.text);
  t.equal(records(), before, 'a change writes no record');
  process.kill(up.member('origin-1').pid, 'SIGSTOP');
  try {
    t.same(await tags.faults(up), [], 'without the one that was taken out');
  } finally {
    process.kill(up.member('origin-1').pid, 'SIGCONT');
  }
  t.comment(`${tags.refused} pushes were refused meanwhile`);
});
