import { CodedError } from '@sepia/base/errors';
import type { ConversionJob } from '@sepia/cluster/api/conversions';
import { PROXY } from '@sepia/cluster/api/proxy';
import { to } from '@sepia/cluster/api/route';
import type { Command } from 'commander';
import { Operator, type OperatorCall, type OperatorFlags, operatorOptions } from '../../operator/operator.ts';
import { bytesText } from '../../terminal/format.ts';

/** `sepia conversions list|show|cancel|retry`. */
export function addConversions(program: Command): void {
  const conversions = program
    .command('conversions')
    .description('jobs that convert images, by the rules of the cluster document');
  operatorOptions(conversions.command('list').description('all jobs, the newest first'))
    .option('--json', 'print them as JSON')
    .action(async (flags: OperatorFlags & { json?: boolean }) => {
      const jobs = await withJobs(flags, async (ask) => await list(ask));
      if (flags.json === true) process.stdout.write(`${JSON.stringify(jobs)}\n`);
      else process.stdout.write(jobs.length === 0 ? 'No jobs.\n' : jobs.map(lineOf).join(''));
    });
  operatorOptions(conversions.command('show <id>').description('one job')).action(
    async (id: string, flags: OperatorFlags) => {
      const job = (await withJobs(flags, async (ask) => await list(ask))).find((one) => one.id === id);
      if (job === undefined) throw new CodedError('JOB_UNKNOWN', { message: `no job ${id} is known` });
      process.stdout.write(`${JSON.stringify(job, null, 2)}\n`);
    },
  );
  for (const [verb, what] of [
    ['cancel', 'end a job that waits or runs'],
    ['retry', 'run a job again that ended, or one that waits now'],
  ] as const)
    operatorOptions(conversions.command(`${verb} <id>`).description(what)).action(
      async (id: string, flags: OperatorFlags) => {
        const call = { ...to(PROXY.conversionChange, { id, verb }), json: {} };
        await withJobs(flags, async (ask) => await ask(call));
        process.stdout.write(`${id}: ${verb === 'cancel' ? 'cancelled' : 'runs again'}\n`);
      },
    );
}

type Ask = <T>(call: OperatorCall) => Promise<T>;

async function withJobs<T>(flags: OperatorFlags, work: (ask: Ask) => Promise<T>): Promise<T> {
  await using operator = Operator.open(flags);
  return await work(async (call) => await operator.askProxy(call));
}

async function list(ask: Ask): Promise<ConversionJob[]> {
  return (await ask<{ jobs: ConversionJob[] }>(to(PROXY.conversions))).jobs;
}

function lineOf(job: ConversionJob): string {
  const { payload, result } = job;
  const image = `${payload.upstream}/${payload.repository}${payload.tag.includes(':') ? '@' : ':'}${payload.tag}`;
  const sizes =
    result?.sourceBytes === undefined || result.targetBytes === undefined
      ? ''
      : `  ${bytesText(result.sourceBytes)} → ${bytesText(result.targetBytes)}`;
  const why = job.error ?? result?.reason ?? '';
  const what = result?.target === undefined ? image : `${image} → ${result.target}`;
  return `${job.id}  ${job.state.padEnd(9)} ${payload.rule}  ${what}${sizes}${why === '' ? '' : `  ${why}`}\n`;
}
