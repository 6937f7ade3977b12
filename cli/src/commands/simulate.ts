import { writeFileSync } from 'node:fs';
import { parseBytes } from '@sepia/base/config/units';
import { CodedError } from '@sepia/base/errors';
import type { Fault } from '@sepia/sim';
import type { Command } from 'commander';
import { wholeNumber } from '../options/option-values.ts';
import { rowOf, rowsText } from '../simulate/rows.ts';
import { parseFault, parseRate, SCENARIOS, simulateOptions } from '../simulate/scenarios.ts';
import { finishSvg, summarise, summaryText } from '../simulate/summary.ts';

interface Flags {
  readonly nodes?: number;
  readonly origins?: number;
  readonly trackers?: number;
  readonly blob?: number;
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
    .option('--trackers <n>', 'not simulated yet: everybody knows everybody', wholeNumber('--trackers'))
    .option('--blob <size>', 'size of the blob, e.g. 512MiB; only one blob is simulated', oneBlob)
    .option('--rate <rate>', "each node's link, each way, e.g. 100Mbit", parseRate)
    .option('--seed <n>', 'same seed, same run', wholeNumber('--seed'), 1)
    .option(
      '--fault <name>',
      'kill, stop or corrupt: befalls the next node after a third of the time; may be repeated',
      parseFault,
      [],
    )
    .option('--svg <file>', 'draw how many nodes had finished by when')
    .option('--json', 'print JSON', false)
    .action(async (scenario: string | undefined, flags: Flags) => await run(scenario ?? 'warm', flags));
}

async function run(scenario: string, flags: Flags): Promise<void> {
  if (flags.trackers !== undefined)
    throw new CodedError('METHOD_UNSUPPORTED', { message: '--trackers: trackers are not simulated yet' });
  const { nodes, origins, blob: blobBytes, rate: rateBytesPerSec, seed, fault: faults } = flags;
  const { options, ...facts } = simulateOptions(scenario, {
    nodes,
    origins,
    blobBytes,
    rateBytesPerSec,
    seed,
    faults,
  });
  const { simulate, simulateKraken } = await import('@sepia/sim');
  const startedMs = performance.now();
  const result = simulate(options);
  const summary = summarise(result, {
    nodes: options.nodes,
    ...facts,
    wallMs: performance.now() - startedMs,
  });
  // Faults befall members of Sepia only.
  const isCompared = SCENARIOS[scenario]!.besideKraken === true && faults.length === 0;
  const krakenMs = performance.now();
  const kraken = isCompared ? simulateKraken(options) : undefined;
  const rows =
    kraken === undefined
      ? []
      : [
          rowOf('policy', result, summary),
          rowOf('kraken', kraken, { limitMs: facts.limitMs, wallMs: performance.now() - krakenMs }),
        ];
  const isChanged = [nodes, origins, blobBytes, rateBytesPerSec].some((one) => one !== undefined);
  const title = `${scenario}${isChanged ? ', changed, was' : ''}: ${SCENARIOS[scenario]!.meaning}`;
  if (flags.svg !== undefined) writeFileSync(flags.svg, finishSvg(result, summary, kraken));
  const text = [summaryText(title, summary), ...(rows.length === 0 ? [] : [rowsText(rows)])].join('\n');
  const told = { scenario, ...summary, ...(rows.length === 0 ? {} : { rows }) };
  process.stdout.write(`${flags.json ? JSON.stringify(told) : text}\n`);
  const lost = faults.filter((kind) => kind !== 'corrupt').length;
  process.exitCode = summary.finished >= options.nodes - lost ? 0 : 1;
}

function oneBlob(text: string, before: number | undefined): number {
  const sizeBytes = parseBytes(text);
  if (sizeBytes === undefined)
    throw new CodedError('CONFIG_INVALID', {
      message: `--blob: "${text}" is not a size; write 512MiB or 3GB`,
    });
  if (before !== undefined)
    throw new CodedError('METHOD_UNSUPPORTED', { message: '--blob: only one blob is simulated yet' });
  return sizeBytes;
}
