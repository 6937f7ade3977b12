import { randomBytes } from 'node:crypto';
import { CodedError } from '@sepia/base/errors';
import { ORIGIN_RECORDS } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import Table from 'cli-table3';
import type { Command } from 'commander';
import { WORK_MS } from '../../deadlines.ts';
import { exitBySilent, mergedJobs, silentOf, tellDone, toldOfSilent } from '../../operator/job-answers.ts';
import { Operator, type OperatorFlags, operatorOptions } from '../../operator/operator.ts';
import { bytesText, durationText } from '../../terminal/format.ts';

interface ShownJob {
  readonly id: string;
  readonly rule: string;
  readonly upstream: string;
  readonly repository: string;
  readonly reference: string;
  readonly kind: string;
  readonly state: string;
  readonly tries: number;
  readonly error?: string;
  readonly nextTryAtMs?: number;
  readonly progress?: { readonly sentBytes: number; readonly missingBytes: number };
}

/** `sepia replicate`. */
export function addReplicate(program: Command): void {
  const replicate = program
    .command('replicate')
    .description('copies of pushed images at other registries: what waits, and what failed');
  operatorOptions(replicate.command('status [rule]'))
    .description('jobs that are not done, and why; exit 1 where an origin did not say')
    .option('--json', 'print JSON', false)
    .action(async (rule: string | undefined, flags: OperatorFlags & { json: boolean }) => {
      await using operator = Operator.open(flags);
      if (rule !== undefined) ruleOf(operator, rule);
      const { jobs, silent } = await gather(operator, rule);
      process.stdout.write(
        flags.json ? `${JSON.stringify({ jobs, silent })}\n` : statusText(operator, jobs, silent),
      );
      exitBySilent(silent);
    });
  operatorOptions(replicate.command('run <rule>'))
    .description('queue everything that a rule names and that is here already')
    .action(async (rule: string, flags: OperatorFlags) => {
      await using operator = Operator.open(flags);
      ruleOf(operator, rule);
      const run = { rule, id: `run-${randomBytes(6).toString('hex')}`, atMs: Date.now() };
      const call = {
        ...to(ORIGIN_RECORDS.replicationRun),
        json: run,
        headersTimeoutMs: WORK_MS,
      };
      const answers = await operator.askAll<{ queued: number }>(call);
      const silent = silentOf(answers);
      const queued = answers.reduce((sum, one) => sum + (one.answer?.queued ?? 0), 0);
      tellDone(`${queued} tags queued`, silent, `; see "sepia replicate status ${rule}"`);
    });
  for (const [act, text] of [
    ['cancel', 'end jobs; what they sent stays at the target'],
    ['retry', 'try jobs again now, also those that were given up'],
  ] as const) {
    operatorOptions(replicate.command(`${act} [job]`))
      .description(text)
      .option('--rule <name>', 'all jobs of a rule')
      .option('--dead', 'all jobs that were given up', false)
      .action(async (job: string | undefined, flags: OperatorFlags & { rule?: string; dead: boolean }) => {
        if (job === undefined && flags.rule === undefined && !flags.dead)
          throw new CodedError('REQUEST_INVALID', { message: `${act}: name a job, --rule NAME or --dead` });
        await using operator = Operator.open(flags);
        if (flags.rule !== undefined) ruleOf(operator, flags.rule);
        const json = { job, rule: flags.rule, dead: flags.dead ? true : undefined, atMs: Date.now() };
        const route = act === 'cancel' ? ORIGIN_RECORDS.replicationCancel : ORIGIN_RECORDS.replicationRetry;
        const answers = await operator.askAll<{ changed: number }>({ ...to(route), json });
        const silent = silentOf(answers);
        const changed = Math.max(...answers.map((one) => one.answer?.changed ?? 0));
        if (changed === 0)
          throw new CodedError('REQUEST_INVALID', {
            message: `${act}: no such job is open${toldOfSilent(silent)}`,
          });
        tellDone(act === 'cancel' ? 'cancelled' : 'tried again', silent);
      });
  }
}

async function gather(
  operator: Operator,
  rule: string | undefined,
): Promise<{ jobs: ShownJob[]; silent: string[] }> {
  const answers = await operator.askAll<{ jobs: ShownJob[] }>(to(ORIGIN_RECORDS.replication, { rule }));
  return { jobs: mergedJobs(answers.flatMap((one) => one.answer?.jobs ?? [])), silent: silentOf(answers) };
}

function ruleOf(operator: Operator, name: string): void {
  const { replication } = operator.cluster.document;
  if (replication.some((rule) => rule.name === name)) return;
  const names = replication.map((rule) => rule.name).join(', ') || 'none';
  throw new CodedError('REQUEST_INVALID', {
    message: `no replication rule "${name}" in the cluster document; there are: ${names}`,
  });
}

function statusText(operator: Operator, jobs: readonly ShownJob[], silent: readonly string[]): string {
  const rules = new Table({
    head: ['rule', 'to', 'waiting', 'running', 'failing', 'dead'],
    colAligns: ['left', 'left', 'right', 'right', 'right', 'right'],
    style: { head: [], border: [], compact: true },
  });
  for (const { name, to } of operator.cluster.document.replication) {
    const count = (...states: string[]): number =>
      jobs.filter((job) => job.rule === name && states.includes(job.state)).length;
    rules.push([name, to.url, count('waiting', 'intent'), count('running'), count('backoff'), count('dead')]);
  }
  const lines = [
    rules.length === 0 ? 'No rules: the cluster document names none below replication.' : rules.toString(),
  ];
  if (jobs.length > 0) {
    const table = new Table({
      head: ['job', 'rule', 'what', 'state', 'tries', 'sent', 'last error'],
      colAligns: ['left', 'left', 'left', 'left', 'right', 'right', 'left'],
      style: { head: [], border: [], compact: true },
    });
    for (const job of jobs.slice(0, 100))
      table.push([
        job.id,
        job.rule,
        whatText(job),
        stateText(job),
        job.tries,
        sentText(job),
        job.error ?? '',
      ]);
    lines.push(table.toString());
    if (jobs.length > 100) lines.push(`… and ${jobs.length - 100} more (--json shows all)`);
  }
  if (silent.length > 0) lines.push(`No answer from ${silent.join(', ')}: what they run is not shown.`);
  return `${lines.join('\n')}\n`;
}

function whatText({ kind, repository, reference }: ShownJob): string {
  const name = `${repository}${reference.includes(':') ? '@' : ':'}${reference}`;
  return kind === 'delete' ? `delete ${name}` : name;
}

function stateText({ state, nextTryAtMs }: ShownJob): string {
  if (state !== 'backoff' || nextTryAtMs === undefined) return state;
  return `again in ${durationText(Math.max(0, nextTryAtMs - Date.now()))}`;
}

function sentText({ progress }: ShownJob): string {
  if (progress === undefined) return '';
  return `${bytesText(progress.sentBytes)} of ${bytesText(progress.missingBytes)}`;
}
