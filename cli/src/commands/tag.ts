import { randomUUID } from 'node:crypto';
import { isDigest } from '@sepia/base/digest';
import { CodedError } from '@sepia/base/errors';
import { isTag } from '@sepia/base/names/repository';
import { H_CHANGE } from '@sepia/cluster/api/headers';
import { ORIGIN_NAMES } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import Table from 'cli-table3';
import type { Command } from 'commander';
import { Operator, type OperatorFlags, type OperatorName, operatorOptions } from '../operator/operator.ts';

interface HistoryAnswer {
  readonly tag: string;
  readonly policy: string;
  readonly digest?: string;
  readonly history: readonly {
    readonly digest?: string;
    readonly atMs: number;
    readonly how: string;
    readonly by: string;
  }[];
}

/** `sepia tag`. */
export function addTag(program: Command): void {
  const tag = program.command('tag').description('show the history of a tag, or point it elsewhere');
  operatorOptions(tag.command('history <ref>'))
    .description('every move of a tag that is kept, oldest first')
    .option('--json', 'print JSON', false)
    .action(async (ref: string, flags: OperatorFlags & { json: boolean }) => {
      await using operator = Operator.open(flags);
      const found = await historyOf(operator, tagOf(operator, ref));
      process.stdout.write(flags.json ? `${JSON.stringify(found)}\n` : `${historyTable(found)}\n`);
    });
  operatorOptions(tag.command('set <ref> <target>'))
    .description('point a tag at a digest, or at @N, the N-th line of its history')
    .action(async (ref: string, target: string, flags: OperatorFlags) => {
      await using operator = Operator.open(flags);
      const name = tagOf(operator, ref);
      const digest = target.startsWith('@') ? digestAt(await historyOf(operator, name), target) : target;
      if (!isDigest(digest))
        throw new CodedError('REQUEST_INVALID', {
          message: `${target}: is neither a digest nor @N of "sepia tag history"`,
        });
      const call = to(ORIGIN_NAMES.tagSet, { ...name, tag: name.reference });
      // An origin that is given it first and wakes late does not make it again.
      const headers = { [H_CHANGE]: randomUUID() };
      await operator.askOwner(name, { ...call, headers, json: { digest } });
      process.stdout.write(`${name.repository}:${name.reference} points at ${digest}\n`);
    });
}

async function historyOf(operator: Operator, name: OperatorName): Promise<HistoryAnswer> {
  const call = to(ORIGIN_NAMES.tagHistory, { ...name, tag: name.reference });
  return await operator.askOwner<HistoryAnswer>(name, call);
}

function tagOf(operator: Operator, ref: string): OperatorName {
  const name = operator.nameOf(ref);
  if (!isTag(name.reference))
    throw new CodedError('REQUEST_INVALID', { message: `${ref}: needs a tag, not a digest` });
  return name;
}

function digestAt(found: HistoryAnswer, target: string): string {
  const move = /^@\d{1,4}$/.test(target) ? found.history[Number(target.slice(1))] : undefined;
  if (move === undefined)
    throw new CodedError('REQUEST_INVALID', {
      message: `${target}: the history of ${found.tag} has lines @0 to @${found.history.length - 1}`,
    });
  if (move.digest === undefined)
    throw new CodedError('REQUEST_INVALID', { message: `${target}: the tag was taken away there` });
  return move.digest;
}

function historyTable(found: HistoryAnswer): string {
  const table = new Table({
    head: ['', 'when', 'how', 'by', 'digest'],
    style: { head: [], border: [], compact: true },
  });
  for (const [index, { digest, atMs, how, by }] of found.history.entries())
    table.push([`@${index}`, new Date(atMs).toISOString(), how, by, digest ?? '–']);
  const now = found.digest === undefined ? 'is not there' : `points at ${found.digest}`;
  return `${table.toString()}\n${found.tag} ${now}, policy ${found.policy}.`;
}
