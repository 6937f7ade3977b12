import { accessSync, constants, existsSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { parseBytes } from '@sepia/base/config/units';
import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { PIECE_BYTES } from '@sepia/metainfo/tree';
import type { Fault, Result } from '@sepia/sim';
import type { Command } from 'commander';
import { namesBelow } from '../options/help-text.ts';
import { wholeNumber } from '../options/option-values.ts';
import { type RowRun, type RowWatch, runRows } from '../simulate/row-runs.ts';
import { type Row, rowOf, rowsText, rowText } from '../simulate/rows.ts';
import { parseFault, parseRate, SCENARIOS, simulateOptions } from '../simulate/scenarios.ts';
import { finishSvg, summarise, summaryText } from '../simulate/summary.ts';
import { type Transfer, Transfers } from '../terminal/transfers.ts';

interface Flags {
  readonly nodes?: number;
  readonly origins?: number;
  readonly trackers?: number;
  readonly blob?: readonly number[];
  readonly rate?: number;
  readonly seed: number;
  readonly fault: readonly Fault['kind'][];
  readonly svg?: string;
  readonly json: boolean;
}

/** `sepia simulate`: exit 0 only if every node that lived got all. */
export function addSimulate(program: Command): void {
  const command = program
    .command('simulate [scenario]')
    .description("run the swarm's own core on a virtual clock and network (default: the scenario warm)")
    .option('--nodes <n>', 'nodes that pull', wholeNumber('--nodes'))
    .option('--origins <n>', 'origins', wholeNumber('--origins'))
    .option(
      '--trackers <n>',
      'trackers that the blobs share; their time counts in the row `calibrated`',
      wholeNumber('--trackers'),
    )
    .option(
      '--blob <size>',
      'size of the blob, e.g. 512MiB; repeated: blobs that all nodes pull at once',
      blobSizes,
    )
    .option('--rate <rate>', "each node's link, each way, e.g. 100Mbit", parseRate)
    .option('--seed <n>', 'same seed, same run', wholeNumber('--seed'), 1)
    .option(
      '--fault <name>',
      'kill, stop, corrupt or crash (it is back after 2 s) the next node, kill the tracker, cut half of the nodes off (partition) after a third of the time, lose 1 % of all blocks (loss); may be repeated',
      parseFault,
      [],
    )
    .option('--svg <file>', 'draw how many nodes had finished by when')
    .option('--json', 'print JSON', false)
    .action(async (scenario: string | undefined, flags: Flags) => await run(scenario ?? 'warm', flags));
  const meanings = Object.entries(SCENARIOS).map(([name, { meaning }]) => [name, meaning] as const);
  namesBelow(command, 'Scenarios (N3 and the like: rows of docs/numbers.md):', Object.fromEntries(meanings));
}

async function run(scenario: string, flags: Flags): Promise<void> {
  if (flags.svg !== undefined) requireWritable(flags.svg);
  const { nodes, origins, trackers, blob: blobBytes, rate: rateBytesPerSec, seed, fault: faults } = flags;
  const changes = { nodes, origins, trackers, blobBytes, rateBytesPerSec };
  const { options, trackers: shared, ...facts } = simulateOptions(scenario, { ...changes, seed, faults });
  // Faults befall members of Sepia only.
  const isCompared = SCENARIOS[scenario]!.besideKraken === true && faults.length === 0;
  const names: Row['row'][] = ['policy', 'calibrated', ...(isCompared ? (['kraken'] as const) : [])];
  const { limitMs, blobBytes: bytes } = facts;
  const runs = await runRows(
    names.map((row) => ({ row, options, trackers: shared })),
    shown(options.nodes * bytes, (row, { result, wallMs }) =>
      rowText(rowOf(row, result, { limitMs, wallMs })),
    ),
  );
  const [ours, , beside] = runs.map((run) => ('result' in run ? run : undefined));
  const rows = names.flatMap((row, at) => {
    const run = runs[at]!;
    return 'result' in run ? [rowOf(row, run.result, { limitMs, wallMs: run.wallMs })] : [];
  });
  const result = ours?.result as Result | undefined;
  const wallMs = ours?.wallMs ?? 0;
  const summary =
    result === undefined ? undefined : summarise(result, { nodes: options.nodes, ...facts, wallMs });
  const isChanged = Object.values(changes).some((one) => one !== undefined);
  const title = `${scenario}${isChanged ? ', changed, was' : ''}: ${SCENARIOS[scenario]!.meaning}`;
  const text = [summary === undefined ? title : summaryText(title, summary), rowsText(rows)].join('\n');
  process.stdout.write(`${flags.json ? JSON.stringify({ scenario, ...summary, rows }) : text}\n`);
  if (flags.svg !== undefined && result !== undefined)
    writeFileSync(flags.svg, finishSvg(result, summary!, beside?.result));
  const lost = faults.filter((kind) => kind === 'kill' || kind === 'stop').length;
  const isWhole =
    rows.length === names.length && rows.every(({ finished }) => finished >= options.nodes - lost);
  process.exitCode = isWhole ? 0 : 1;
  for (const [at, run] of runs.entries()) if ('error' in run) tellFailed(names[at]!, run.error);
}

/** A run may take long: what cannot be written at its end is told before it. */
function requireWritable(file: string): void {
  // One that is there (`/dev/stdout`) is written over: its folder does not matter.
  const place = existsSync(file) ? file : dirname(resolve(file));
  try {
    accessSync(place, constants.W_OK);
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('CONFIG_INVALID', {
      message: `--svg: nothing can be written to ${place} (${systemCode(cause)})`,
      cause,
    });
  }
}

/** Each row as a bar, or lines, of the bytes that members have; at its end what `textOf` says of it, whatever becomes of the others. */
function shown(sizeBytes: number, textOf: (row: Row['row'], run: RowRun) => string): RowWatch {
  const transfers = new Transfers(process.stderr);
  const open = new Map<Row['row'], Transfer>();
  return {
    began: (row) => open.set(row, transfers.start(row.padEnd(10), sizeBytes)),
    progress: (row, { pieces }) => open.get(row)!.step(row.padEnd(10), sizeBytes, pieces * PIECE_BYTES),
    ended: (row, run) => open.get(row)!.end(textOf(row, run)),
  };
}

function tellFailed(row: Row['row'], error: unknown): void {
  const why =
    systemCode(error) === 'ERR_WORKER_OUT_OF_MEMORY' ? 'it needs more memory than it may take' : undefined;
  const text = why ?? (error instanceof Error ? error.stack : String(error));
  process.stderr.write(`sepia: the row ${row} failed: ${text}\n`);
}

function blobSizes(text: string, before: readonly number[] | undefined): readonly number[] {
  const sizeBytes = parseBytes(text);
  if (sizeBytes === undefined || sizeBytes < 1)
    throw new CodedError('CONFIG_INVALID', {
      message: `--blob: "${text}" is not a size; write 512MiB or 3GB`,
    });
  return [...(before ?? []), sizeBytes];
}
