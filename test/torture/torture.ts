import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { throwIfBug } from '@sepia/base/failure';
import { PostgresServer } from '@sepia/test-support/postgres';
import { coreRuns, isOfCores } from './cores/cores.ts';
import { mountSmallDisk, unmountSmallDisk } from './disks.ts';
import { History } from './history.ts';
import { HAS_FAKETIME, Members } from './members.ts';
import type { Options } from './options.ts';
import { Rounds } from './rounds.ts';
import { preloadOf } from './sabotage/sabotage.ts';
import { DESTRUCTIVE, FAULTS, type FaultName, OF_DATABASE, roundsOf, type Topology } from './schedule.ts';
import { type Findings, isClean, noFindings, Traffic, textOf } from './traffic.ts';

const TEXTS = 20;

type Log = (text: string) => void;
type Sum = Findings & { rounds: number };

/** Runs the cores, then the rounds on real processes; prints the result, and returns the exit code. */
export async function torture(options: Options, root: string): Promise<number> {
  const log: Log = (text) => {
    (options.json ? process.stderr : process.stdout).write(`${text}\n`);
  };
  log(`seed ${options.seed}`);
  const sum: Sum = { ...noFindings(), rounds: 0 };
  const cores = await coreRuns(options, log);
  if (cores !== undefined) {
    sum[cores.kind] += 1;
    sum.texts.push(`${cores.kind.toUpperCase()} ${cores.text}`);
  } else if (!isOfCores(options.sabotage))
    for (const [at, origins] of options.origins.entries()) {
      const share = shareOf(options.rounds, options.origins.length, at);
      if (share > 0) await playOn(origins, share, options, join(root, String(origins)), log, sum);
    }
  for (const text of sum.texts.slice(0, TEXTS)) log(text);
  const { rounds, answered, refused } = sum;
  log(`${answered} operations answered, ${refused} refused or unanswered; seed ${options.seed}`);
  const last = `${rounds} rounds, ${textOf(sum)}`;
  if (options.json) process.stdout.write(`${JSON.stringify({ seed: options.seed, ...sum, last })}\n`);
  log(last);
  return isClean(sum) ? 0 : 1;
}

/** A cluster that rounds are played on. */
interface Bed {
  readonly members: Members;
  readonly database: PostgresServer | undefined;
  readonly scratch: string;
  readonly smallDisk: string | undefined;
}

async function playOn(
  origins: number,
  count: number,
  options: Options,
  dir: string,
  log: Log,
  sum: Sum,
): Promise<void> {
  const scratch = join(dir, 'scratch');
  mkdirSync(scratch, { recursive: true });
  const data = join(dir, 'cluster');
  const small = `origin-${origins}`;
  const hasSmall = mountSmallDisk(join(data, 'members', small));
  const leave = (): void => {
    if (hasSmall) unmountSmallDisk(join(data, 'members', small));
  };
  let members: Members | undefined;
  let database: PostgresServer | undefined;
  try {
    if (options.records === 'postgres') database = await PostgresServer.start();
    members = await Members.start(data, {
      origins,
      preload: preloadOf(options.sabotage),
      recordsUrl: database?.url,
      encrypted: options.encrypted,
    });
    const bed = { members, database, scratch, smallDisk: hasSmall ? small : undefined };
    await playRounds(bed, count, options, log, sum);
  } finally {
    await members?.stop();
    await database?.remove();
    leave();
  }
}

async function playRounds(bed: Bed, count: number, options: Options, log: Log, sum: Sum): Promise<void> {
  const { members, smallDisk } = bed;
  const history = new History();
  const traffic = new Traffic(
    history,
    (name) => members.get(name).url,
    () => performance.now(),
  );
  const rounds = new Rounds({ ...bed, traffic, history, log });
  const topology = topologyOf(members, smallDisk);
  const origins = topology.origins.length;
  const faults = faultsFor(options, topology, log);
  const list = roundsOf(options.seed + origins, count, topology, faults);
  log(`${origins} origins, ${count} rounds of ${faults.join(', ')}`);
  try {
    for (const [index, round] of list.entries()) {
      await rounds.play(round, index);
      sum.rounds += 1;
      if (options.sabotage !== undefined && !isClean(traffic.findings)) break;
    }
    // Liars that were found may owe copies for ever.
    if (options.sabotage === undefined || isClean(traffic.findings)) await rounds.finish();
  } catch (error) {
    throwIfBug(error);
    traffic.unanswered((error as Error).message);
  }
  for (const key of ['lost', 'corrupt', 'stale', 'unanswered', 'answered', 'refused'] as const)
    sum[key] += traffic.findings[key];
  sum.texts.push(...traffic.findings.texts);
}

function topologyOf(members: Members, smallDisk: string | undefined): Topology {
  const names = (role: 'origin' | 'tracker' | 'proxy' | 'agent') => members.of(role).map(({ name }) => name);
  return {
    origins: names('origin'),
    trackers: names('tracker'),
    proxies: names('proxy'),
    agents: names('agent'),
    smallDisk,
  };
}

/** What can be done here; what is left out is named. */
function faultsFor(options: Options, { smallDisk }: Topology, log: Log): FaultName[] {
  const why = (name: FaultName): string | undefined => {
    if (name === 'clock-jump' && !HAS_FAKETIME) return 'no faketime is installed';
    if (name === 'disk-full' && smallDisk === undefined) return 'nothing can be mounted';
    if (OF_DATABASE.has(name) && options.records === 'embedded') return 'records rest on the origins';
    if (DESTRUCTIVE.has(name) && name !== 'rot' && !options.disks) return '--disks off';
    return undefined;
  };
  for (const name of FAULTS) if (why(name) !== undefined) log(`left out: ${name}, ${why(name)}`);
  return FAULTS.filter((name) => why(name) === undefined);
}

function shareOf(rounds: number, parts: number, at: number): number {
  return Math.floor((rounds * (at + 1)) / parts) - Math.floor((rounds * at) / parts);
}
