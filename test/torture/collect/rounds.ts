import { readdirSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { delay } from '@sepia/base/lifecycle';
import type { GcReport } from '@sepia/cluster/api/gc-report';
import { seeded } from '@sepia/test-support/seeded';
import { run } from '@sepia/test-support/testbed';
import type { Up, UpMember } from '@sepia/test-support/up';
import { bytesOf, digestOf } from '../client.ts';
import type { Made } from './content.ts';
import { layerOf, type Sum, Worker } from './worker.ts';

const SEPIA = resolve(import.meta.dirname, '../../../sepia');
const REPOSITORIES = ['collect/a', 'collect/b', 'collect/deep/c'];
/** Clients of one repository: what they push at once shares layers. */
const CLIENTS = 2;
const GRACE_MS = 4_000;
/** Traffic of a round where the caller does not say, with collections behind it all the while. */
const ROUND_MS = 40_000;
const SWEEP_MS = 120_000;
const PAUSE_MS = 1_000;

/** When the rounds are over: after so many, or with the first that ends after `untilMs`. */
export type RoundsEnd = { readonly rounds: number } | { readonly untilMs: number };

export interface Collected extends Sum {
  rounds: number;
  sweeps: number;
  /** Collections that were refused or ended early, and say so. */
  putOff: number;
  links: number;
  blobs: number;
}

/**
 * Traffic and collections at once, in rounds, as many as `end` says or until its time (performance.now()) is over; after
 * each, when nothing is younger than the grace, one collection more: then all that is referenced must be there, and nothing
 * else, at any proxy and on any disk.
 */
export async function collectRounds(
  up: Up,
  options: {
    readonly end: RoundsEnd;
    readonly seed: number;
    readonly log: (text: string) => void;
    readonly roundMs?: number;
  },
): Promise<Collected> {
  const { seed, log, end, roundMs = ROUND_MS } = options;
  const sum: Collected = {
    rounds: 0,
    sweeps: 0,
    putOff: 0,
    links: 0,
    blobs: 0,
    lost: 0,
    corrupt: 0,
    kept: 0,
    operations: 0,
    repeats: 0,
    texts: [],
  };
  const proxies = up.cluster.proxies.map(({ url }) => url);
  const workers = REPOSITORIES.flatMap((repository, at) =>
    Array.from({ length: CLIENTS }, (_, client) => {
      const name = `c${at}${client}`;
      const others = REPOSITORIES.filter((one) => one !== repository);
      return new Worker({ name, repository, others, proxies, seed: seed * 100 + at * 10 + client, sum });
    }),
  );
  const chance = seeded(seed);
  const collector = new Sweeps(up, sum);
  do {
    let over = false;
    const sweeping = collector.until(() => over);
    const quietMs = performance.now() + roundMs;
    await Promise.all(
      workers.map(async (worker) => {
        while (performance.now() < quietMs) await worker.step();
      }),
    );
    over = true;
    await sweeping;
    if (sum.rounds % 2 === 1) await killed(up, chance);
    await delay(GRACE_MS + PAUSE_MS);
    await collector.whole();
    const kept = await settled(workers, up, collector);
    sum.kept += kept.length;
    sum.texts.push(...kept);
    sum.rounds += 1;
    log(
      `round ${sum.rounds}: ${sum.operations} operations, ${sum.repeats} repeats, ${sum.sweeps} sweeps took ${sum.links} links and ${sum.blobs} files; lost ${sum.lost}, kept ${sum.kept}`,
    );
  } while (!isOver(end, sum.rounds) && sum.lost + sum.corrupt + sum.kept === 0);
  return sum;
}

function isOver(end: RoundsEnd, rounds: number): boolean {
  return 'rounds' in end ? rounds >= end.rounds : performance.now() >= end.untilMs;
}

/** `sepia gc`, as an operator runs it. */
class Sweeps {
  readonly #up: Up;
  readonly #sum: Collected;

  constructor(up: Up, sum: Collected) {
    this.#up = up;
    this.#sum = sum;
  }

  async until(isOver: () => boolean): Promise<void> {
    while (!isOver()) {
      await this.#once();
      await delay(PAUSE_MS);
    }
  }

  /** One that comes to its end and leaves no repository out. @throws when there is none in time */
  async whole(): Promise<void> {
    const deadline = performance.now() + SWEEP_MS;
    for (let why = ''; ; await delay(PAUSE_MS)) {
      const { report, text } = await this.#once();
      const left = report?.repositories.find((one) => one.left !== undefined);
      if (report?.phase === 'done' && left === undefined) return;
      why = left?.left ?? text;
      if (performance.now() > deadline) throw new Error(`no collection comes to its end: ${why}`);
    }
  }

  async #once(): Promise<{ report: GcReport | undefined; text: string }> {
    const { stdout, stderr } = await run(SEPIA, [
      'gc',
      '--json',
      '--grace',
      `${GRACE_MS}ms`,
      '--cluster',
      join(this.#up.dir, 'cluster.json'),
    ]);
    const report = stdout === '' ? undefined : (JSON.parse(stdout) as GcReport);
    if (report?.phase === 'done') this.#sum.sweeps += 1;
    else this.#sum.putOff += 1;
    this.#sum.links += report?.links ?? 0;
    this.#sum.blobs += report?.blobs ?? 0;
    return { report, text: report?.failure ?? stderr };
  }
}

/** kill -9 of an origin, which `sepia up` starts again. */
async function killed(up: Up, chance: () => number): Promise<void> {
  const { origins } = up.cluster;
  const { name } = origins[Math.floor(chance() * origins.length)]!;
  const member = up.member(name);
  process.kill(member.pid, 'SIGKILL');
  await up.back(member, member.pid);
}

/** All that must be there is read. @returns what is there beside it */
async function settled(workers: readonly Worker[], up: Up, collector: Sweeps): Promise<string[]> {
  await Promise.all(
    workers.map(async (worker) => {
      await worker.readTags();
      await worker.readAll([...worker.content.mustStay().values()]);
    }),
  );
  const kept = await keptOf(workers, up);
  if (kept.length === 0) return kept;
  // A request that a proxy gave up, or a client, may have been carried out late: what it touched was young.
  await delay(GRACE_MS + PAUSE_MS);
  await collector.whole();
  return await keptOf(workers, up);
}

/** What is there though nothing refers to it: asked of the proxies, and looked for on the disks. */
async function keptOf(workers: readonly Worker[], up: Up): Promise<string[]> {
  const kept: string[] = [];
  const stays = new Set<string>();
  for (const repository of REPOSITORIES) {
    const own = workers.filter((one) => one.repository === repository);
    const may = namedBy(own.flatMap(({ content }) => [...content.mayStay().values()]));
    const ever = namedBy(own.flatMap(({ content }) => [...content.made.values()]));
    for (const digest of may.keys()) stays.add(digest);
    const layers = Array.from({ length: 40 }, (_, index) => digestOf(bytesOf(layerOf(index))));
    const gone = new Map([...layers.map((digest) => [digest, 'blobs'] as const), ...ever]);
    for (const [digest, kind] of gone)
      if (!may.has(digest)) kept.push(...(await own[0]!.keptOf(`${kind}/${digest}`)));
  }
  for (const origin of up.cluster.origins)
    for (const digest of storedAt(up, origin))
      if (!stays.has(digest))
        kept.push(`KEPT ${origin.name} has ${digest} on its disk, which nothing refers to`);
  return kept;
}

/** Digests of manifests and of what they name, with the part of the path at which they are had. */
function namedBy(manifests: readonly Made[]): Map<string, 'blobs' | 'manifests'> {
  const found = new Map<string, 'blobs' | 'manifests'>();
  for (const { digest, blobs } of manifests) {
    found.set(digest, 'manifests');
    for (const blob of blobs) found.set(blob, 'blobs');
  }
  return found;
}

function storedAt(up: Up, { name }: UpMember): string[] {
  const folder = join(up.dir, 'members', name, 'v1', 'blobs');
  const files = readdirSync(folder, { recursive: true, encoding: 'utf8' });
  return files.flatMap((file) => /([0-9a-f]{64})$/.exec(file)?.[1] ?? []).map((hex) => `sha256:${hex}`);
}
