import { writeFileSync } from 'node:fs';
import { parseBytes } from '@sepia/base/config/units';
import { CodedError } from '@sepia/base/errors';
import type { Fault, Result } from '@sepia/sim';
import type { Command } from 'commander';
import { wholeNumber } from '../options/option-values.ts';
import { runRows } from '../simulate/row-runs.ts';
import { type Row, rowOf, rowsText } from '../simulate/rows.ts';
import { parseFault, parseRate, SCENARIOS, simulateOptions } from '../simulate/scenarios.ts';
import { finishSvg, summarise, summaryText } from '../simulate/summary.ts';
import { durationText } from '../terminal/format.ts';
import { LiveBlock } from '../terminal/live-block.ts';

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
  program
    .command('simulate [scenario]')
    .description(
      `run the swarm's own core on a virtual clock and network: ${Object.keys(SCENARIOS).join(', ')} (default warm)`,
    )
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
}

async function run(scenario: string, flags: Flags): Promise<void> {
  const { nodes, origins, trackers, blob: blobBytes, rate: rateBytesPerSec, seed, fault: faults } = flags;
  const changes = { nodes, origins, trackers, blobBytes, rateBytesPerSec };
  const { options, trackers: shared, ...facts } = simulateOptions(scenario, { ...changes, seed, faults });
  // Faults befall members of Sepia only.
  const isCompared = SCENARIOS[scenario]!.besideKraken === true && faults.length === 0;
  const names: Row['row'][] = ['policy', 'calibrated', ...(isCompared ? (['kraken'] as const) : [])];
  const live = new LiveBlock(process.stderr);
  const states = new Map<Row['row'], string>();
  const runs = await runRows(
    names.map((row) => ({ row, options, trackers: shared })),
    (row, { atMs, busy }) => {
      states.set(row, `${row.padEnd(10)} ${durationText(atMs)} simulated, ${busy} pulls not at their end`);
      live.draw([...states.values()]);
    },
  );
  const result = runs[0]!.result as Result;
  const summary = summarise(result, { nodes: options.nodes, ...facts, wallMs: runs[0]!.wallMs });
  const rows = names.map((row, at) =>
    rowOf(row, runs[at]!.result, { limitMs: facts.limitMs, wallMs: runs[at]!.wallMs }),
  );
  const isChanged = Object.values(changes).some((one) => one !== undefined);
  const title = `${scenario}${isChanged ? ', changed, was' : ''}: ${SCENARIOS[scenario]!.meaning}`;
  if (flags.svg !== undefined) writeFileSync(flags.svg, finishSvg(result, summary, runs[2]?.result));
  const text = [summaryText(title, summary), rowsText(rows)].join('\n');
  process.stdout.write(`${flags.json ? JSON.stringify({ scenario, ...summary, rows }) : text}\n`);
  const lost = faults.filter((kind) => kind === 'kill' || kind === 'stop').length;
  process.exitCode = rows.every(({ finished }) => finished >= options.nodes - lost) ? 0 : 1;
}

function blobSizes(text: string, before: readonly number[] | undefined): readonly number[] {
  const sizeBytes = parseBytes(text);
  if (sizeBytes === undefined || sizeBytes < 1)
    throw new CodedError('CONFIG_INVALID', {
      message: `--blob: "${text}" is not a size; write 512MiB or 3GB`,
    });
  return [...(before ?? []), sizeBytes];
}
