import { askInTurn } from '@sepia/base/async/ask-many';
import { parseDuration } from '@sepia/base/config/units';
import { CodedError, isCoded } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { delay } from '@sepia/base/lifecycle';
import type { BackendReport, GcReport } from '@sepia/cluster/api/gc-report';
import { ORIGIN_GC } from '@sepia/cluster/api/origin';
import { to } from '@sepia/cluster/api/route';
import Table from 'cli-table3';
import type { Command } from 'commander';
import { GC_BEGIN_MS, GC_LEADER_MS, GC_SILENT_MS, LOOK_EVERY_MS } from '../deadlines.ts';
import { Operator, type OperatorFlags, operatorOptions } from '../operator/operator.ts';
import { bytesText, durationText } from '../terminal/format.ts';

/** `sepia gc`. */
export function addGc(program: Command): void {
  operatorOptions(program.command('gc'))
    .description('remove pushed content that no tag leads to, in the whole cluster')
    .option('--dry-run', 'say what would go, and take nothing', false)
    .option('--grace <duration>', 'what was written within this time stays', '24h')
    .option('--json', 'print JSON', false)
    .action(async (flags: OperatorFlags & { dryRun: boolean; grace: string; json: boolean }) => {
      const graceMs = parseDuration(flags.grace);
      if (graceMs === undefined)
        throw new CodedError('CONFIG_INVALID', {
          message: `--grace: "${flags.grace}" is not a duration; write 0s, 30m or 24h`,
        });
      await using operator = Operator.open(flags);
      const begun = await beginCollection(operator, { dryRun: flags.dryRun, graceMs });
      const report = await ended(operator, begun, flags.json);
      process.stdout.write(flags.json ? `${JSON.stringify(report)}\n` : textOf(report));
      if (report.phase === 'failed') process.exitCode = 1;
    });
}

/** At the first origin in the order of the key `gc` that answers. One that hangs is not told: it would begin when it wakes. */
export async function beginCollection(
  operator: Pick<Operator, 'ask' | 'cluster'>,
  json: { dryRun: boolean; graceMs: number },
): Promise<GcReport> {
  const ask = async (id: string): Promise<GcReport> => {
    await operator.ask<unknown>(id, { ...to(ORIGIN_GC.report), headersTimeoutMs: GC_LEADER_MS });
    return await operator.ask<GcReport>(id, { ...to(ORIGIN_GC.begin), json, headersTimeoutMs: GC_BEGIN_MS });
  };
  const isFinal = (error: unknown): boolean => !isCoded(error, 'PEER_HTTP') && !isCoded(error, 'DRAINING');
  return await askInTurn(operator.cluster.origins('gc').order, ask, { isFinal });
}

/** Waits for the end; tells how far it is where somebody looks. */
async function ended(operator: Operator, begun: GcReport, quiet: boolean): Promise<GcReport> {
  const isShown = !quiet && process.stderr.isTTY;
  for (let heardMs = performance.now(); ; ) {
    await delay(LOOK_EVERY_MS);
    try {
      const { report } = await operator.ask<{ report?: GcReport }>(begun.leader, to(ORIGIN_GC.report));
      heardMs = performance.now();
      if (report?.generation !== begun.generation) throw lost(begun.leader, 'was restarted');
      if (isShown)
        process.stderr.write(`\r\u001b[K${report.endedAtMs === undefined ? progressOf(report) : ''}`);
      if (report.endedAtMs !== undefined) return report;
    } catch (error) {
      throwIfBug(error);
      if (!isCoded(error, 'PEER_HTTP')) throw error;
      if (performance.now() - heardMs > GC_SILENT_MS) throw lost(begun.leader, 'does not answer');
    }
  }
}

function lost(leader: string, what: string): CodedError {
  return new CodedError('GC_REFUSED', {
    message: `${leader}, which led the collection, ${what}; what it took is gone, nothing is half done: run it again in a minute`,
  });
}

function progressOf({ phase, seen, links, bytes }: GcReport): string {
  if (phase === 'repositories') return `${seen} repositories, ${links} links without reference`;
  return `${phase}: ${bytesText(bytes)} freed on disks`;
}

function textOf(report: GcReport): string {
  const { dryRun, repositories, seen, links, linkBytes, unlinked, blobs, bytes } = report;
  // An origin of an older version tells of none.
  const backends = report.backends ?? [];
  const head = ['repository', dryRun ? 'would go' : 'gone', 'of its quota'];
  const table = new Table({
    head: [...head, ...(backends.length === 0 ? [] : ['of the backend']), 'stays', ''],
    style: { head: [], border: [], compact: true },
  });
  for (const one of repositories)
    table.push([
      `${one.upstream}/${one.repository}`,
      one.links,
      bytesText(one.bytes),
      ...(backends.length === 0 ? [] : [dryRun ? '' : bytesText(one.backendBytes ?? 0)]),
      one.kept,
      one.left === undefined ? '' : `left: ${one.left}`,
    ]);
  const took = durationText((report.endedAtMs ?? report.startedAtMs) - report.startedAtMs);
  const list = repositories.length === 0 ? '' : `${table.toString()}\n`;
  const sum = `${seen} repositories looked at in ${took}: ${links} links, ${bytesText(linkBytes)} of quotas`;
  const disk = dryRun
    ? `${unlinked} blobs have no link at all already; those of the links above come with them`
    : `${blobs} files, ${bytesText(bytes)} taken off disks (all copies)`;
  const places = backends.map((one) => `${backendText(one, dryRun)}\n`).join('');
  const end = report.failure === undefined ? '' : `ended early: ${report.failure}\n`;
  return `${list}${sum}\n${disk}\n${places}${end}`;
}

function backendText({ place, unlinked, blobs, bytes, older, left }: BackendReport, dryRun: boolean): string {
  const took = dryRun
    ? `${unlinked} blobs have no link at all already`
    : `${blobs} blobs, ${bytesText(bytes)} taken out`;
  const old = older === 0 ? '' : `; ${older} are older than all records and stay`;
  return `${place}: ${took}${old}${left === undefined ? '' : `; left: ${left}`}`;
}
