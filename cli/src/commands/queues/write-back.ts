import { parseDuration } from '@sepia/base/config/units';
import { CodedError } from '@sepia/base/errors';
import { delay } from '@sepia/base/lifecycle';
import { ORIGIN_WRITE_BACK } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import type { WriteBackJob, WriteBackRetry, WriteBackStatus } from '@sepia/cluster/api/write-back';
import Table from 'cli-table3';
import { type Command, Option } from 'commander';
import { LOOK_EVERY_MS } from '../../deadlines.ts';
import { exitBySilent, mergedJobs, silentOf, tellDone, toldOfSilent } from '../../operator/job-answers.ts';
import { Operator, type OperatorFlags, operatorOptions } from '../../operator/operator.ts';
import { bytesText, durationText } from '../../terminal/format.ts';

const MAX_ROWS = 100;
const SEE_STATUS = '; see "sepia write-back status"';

interface Gathered {
  readonly jobs: readonly WriteBackJob[];
  readonly silent: readonly string[];
}

interface StatusFlags extends OperatorFlags {
  readonly json: boolean;
}

interface RetryFlags extends OperatorFlags {
  readonly upstream?: string;
  readonly dead: boolean;
  readonly all: boolean;
  readonly take?: 'ours' | 'theirs';
}

/** `sepia write-back`. */
export function addWriteBack(program: Command): void {
  const writeBack = program
    .command('write-back')
    .description('pushes that an upstream of mode write-back still has to bring to its registry');
  operatorOptions(writeBack.command('status [upstream]'))
    .description('what waits, why, and what to do; exit 1 where an origin did not say')
    .option('--json', 'print JSON', false)
    .action(runStatus);
  operatorOptions(writeBack.command('retry [job]'))
    .description('try again now, also what was given up')
    .option('--upstream <name>', 'all that waits for the registry behind it')
    .option('--dead', 'all that was given up', false)
    .option('--all', 'all that waits', false)
    .addOption(
      new Option('--take <who>', 'who wins a conflict: the push here, or the registry').choices([
        'ours',
        'theirs',
      ]),
    )
    .action(runRetry);
  operatorOptions(writeBack.command('give-up <job>'))
    .description('drop one push: the registry never gets it, and the tag becomes what it is there')
    .action(runGiveUp);
  operatorOptions(writeBack.command('drain [upstream]'))
    .description('try all again and wait until nothing is left; exit code 1 with what is left')
    .option('--timeout <duration>', 'how long to wait', '10m')
    .option('--json', 'print JSON', false)
    .action(runDrain);
}

async function runStatus(upstream: string | undefined, flags: StatusFlags): Promise<void> {
  await using operator = Operator.open(flags);
  const names = namesOf(operator, upstream);
  const found = await gather(operator, upstream);
  process.stdout.write(flags.json ? `${JSON.stringify(found)}\n` : textOf(names, found));
  exitBySilent(found.silent);
}

async function runRetry(job: string | undefined, flags: RetryFlags): Promise<void> {
  const { upstream, take, dead, all } = flags;
  if (job === undefined && upstream === undefined && !dead && !all)
    throw new CodedError('REQUEST_INVALID', {
      message: 'retry: name a job, --upstream NAME, --dead or --all',
    });
  await using operator = Operator.open(flags);
  if (upstream !== undefined) namesOf(operator, upstream);
  const { changed, silent } = await retry(operator, { job, upstream, take, dead: dead ? true : undefined });
  if (changed === 0)
    throw new CodedError('REQUEST_INVALID', { message: `retry: no such push waits${toldOfSilent(silent)}` });
  tellDone('tried again', silent, SEE_STATUS);
}

async function runGiveUp(job: string, flags: OperatorFlags): Promise<void> {
  await using operator = Operator.open(flags);
  const { changed, silent } = await retry(operator, { job, take: 'drop' });
  if (changed === 0)
    throw new CodedError('REQUEST_INVALID', {
      message: `give-up: no such push waits${toldOfSilent(silent)}`,
    });
  tellDone('given up', silent, SEE_STATUS);
}

async function runDrain(
  upstream: string | undefined,
  flags: StatusFlags & { readonly timeout: string },
): Promise<void> {
  const timeoutMs = parseDuration(flags.timeout);
  if (timeoutMs === undefined)
    throw new CodedError('CONFIG_INVALID', {
      message: `--timeout: "${flags.timeout}" is not a duration; write 30s, 10m or 2h`,
    });
  await using operator = Operator.open(flags);
  const names = namesOf(operator, upstream);
  await retry(operator, { upstream });
  const left = await drained(operator, upstream, Date.now() + timeoutMs);
  const isEmpty = left.jobs.length + left.silent.length === 0;
  if (!isEmpty) process.exitCode = 1;
  const text = isEmpty ? 'nothing waits\n' : textOf(names, left);
  process.stdout.write(flags.json ? `${JSON.stringify(left)}\n` : text);
}

/** Upstreams of mode write-back, or the one that is named. @throws {CodedError} `REQUEST_INVALID` */
function namesOf(operator: Operator, named: string | undefined): string[] {
  const names = operator.cluster.upstreams
    .filter(({ mode }) => mode === 'write-back')
    .map(({ name }) => name);
  if (named === undefined) return names;
  if (names.includes(named)) return [named];
  throw new CodedError('REQUEST_INVALID', {
    message: `no upstream "${named}" of mode write-back; there are: ${names.join(', ') || 'none'}`,
  });
}

async function gather(operator: Operator, upstream: string | undefined): Promise<Gathered> {
  const answers = await operator.askAll<WriteBackStatus>(to(ORIGIN_WRITE_BACK.status, { upstream }));
  const silent = silentOf(answers);
  return { jobs: mergedJobs(answers.flatMap((one) => one.answer?.jobs ?? [])), silent };
}

async function retry(
  operator: Operator,
  which: Omit<WriteBackRetry, 'atMs'>,
): Promise<{ changed: number; silent: readonly string[] }> {
  const json: WriteBackRetry = { ...which, atMs: Date.now() };
  const answers = await operator.askAll<{ changed: number }>({ ...to(ORIGIN_WRITE_BACK.retry), json });
  const changed = Math.max(...answers.map((one) => one.answer?.changed ?? 0));
  return { changed, silent: silentOf(answers) };
}

/** What is left when only dead jobs are, or the time is over. */
async function drained(operator: Operator, upstream: string | undefined, untilMs: number): Promise<Gathered> {
  for (;;) {
    const found = await gather(operator, upstream);
    const isOver = found.silent.length === 0 && found.jobs.every(({ state }) => state === 'dead');
    if (isOver || Date.now() >= untilMs) return found;
    await delay(LOOK_EVERY_MS);
  }
}

function textOf(names: readonly string[], { jobs, silent }: Gathered): string {
  const sums = new Table({
    head: ['upstream', 'waiting', 'running', 'failing', 'dead', 'oldest'],
    colAligns: ['left', 'right', 'right', 'right', 'right', 'right'],
    style: { head: [], border: [], compact: true },
  });
  for (const name of names) {
    const own = jobs.filter(({ upstream }) => upstream === name);
    const count = (...states: string[]): number => own.filter(({ state }) => states.includes(state)).length;
    const oldestMs = Math.min(...own.map(({ createdAtMs }) => createdAtMs));
    const oldest = own.length === 0 ? '' : durationText(Math.max(0, Date.now() - oldestMs));
    sums.push([name, count('waiting', 'intent'), count('running'), count('backoff'), count('dead'), oldest]);
  }
  const lines = names.length === 0 ? ['No upstream has mode write-back.'] : [sums.toString()];
  if (jobs.length > 0) lines.push(jobsText(jobs));
  if (jobs.length > MAX_ROWS) lines.push(`… and ${jobs.length - MAX_ROWS} more (--json shows all)`);
  if (silent.length > 0) lines.push(`No answer from ${silent.join(', ')}: what they run is not shown.`);
  return `${lines.join('\n')}\n`;
}

function jobsText(jobs: readonly WriteBackJob[]): string {
  const table = new Table({
    head: ['job', 'upstream', 'what', 'state', 'refusals', 'sent', 'why'],
    colAligns: ['left', 'left', 'left', 'left', 'right', 'right', 'left'],
    style: { head: [], border: [], compact: true },
  });
  for (const job of jobs.slice(0, MAX_ROWS)) {
    const { id, upstream, repository, reference, kind, tries, error = '', advice } = job;
    const name = `${repository}${reference.includes(':') ? '@' : ':'}${reference}`;
    const what = kind === 'delete' ? `delete ${name}` : name;
    const why = advice === undefined ? error : `${error} (${advice})`;
    table.push([id, upstream, what, stateText(job), tries, sentText(job), why]);
  }
  return table.toString();
}

function stateText({ state, againInMs }: WriteBackJob): string {
  return state === 'backoff' && againInMs !== undefined ? `again in ${durationText(againInMs)}` : state;
}

function sentText({ sentBytes, missingBytes }: WriteBackJob): string {
  if (sentBytes === undefined || missingBytes === undefined) return '';
  return `${bytesText(sentBytes)} of ${bytesText(missingBytes)}`;
}
