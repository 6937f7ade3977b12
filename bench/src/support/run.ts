import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { StopStack } from '@sepia/base/lifecycle';
import { machineFacts } from './machine.ts';

/** What a bench is given. */
export interface BenchContext {
  /** An empty folder that is removed at the end. */
  readonly dir: string;
  readonly stops: StopStack;
  /** A number from the command line, or its default. */
  number(name: string): number;
  /** Shows progress on standard error. */
  say(text: string): void;
}

export interface BenchDefinition {
  readonly id: string;
  readonly claim: string;
  /** Numeric options with their defaults. */
  readonly options: Readonly<Record<string, number>>;
  run(context: BenchContext): Promise<Record<string, unknown>>;
}

/**
 * Runs a bench as a process: JSON to standard output, with `--out FILE` also to a file. Everything started is ended, also
 * on SIGINT and SIGTERM. Exit 1 when it fails, 2 for wrong arguments.
 */
export async function runBench(bench: BenchDefinition): Promise<void> {
  const values = argumentsOf(bench);
  const dir = mkdtempSync(join(process.env['SEPIA_BENCH_DIR'] ?? tmpdir(), `sepia-bench-${bench.id}-`));
  const stops = new StopStack();
  stops.push('folder', () => rmSync(dir, { recursive: true, force: true, maxRetries: 3 }));
  const end = (signal: NodeJS.Signals): void => {
    void stops.stop().finally(() => process.exit(signal === 'SIGINT' ? 130 : 143));
  };
  process.once('SIGINT', end);
  process.once('SIGTERM', end);
  const say = (text: string): void => {
    process.stderr.write(`${bench.id}: ${text}\n`);
  };
  try {
    const facts = machineFacts();
    const number = (name: string): number => Number(values[name] ?? bench.options[name]);
    const results = await bench.run({ dir, stops, number, say });
    const command = `npm run bench -- ${bench.id}${process.argv
      .slice(2)
      .map((one) => ` ${one}`)
      .join('')}`;
    const text = `${JSON.stringify({ bench: bench.id, claim: bench.claim, command, ...facts, results }, null, 2)}\n`;
    process.stdout.write(text);
    if (values['out'] !== undefined) writeFileSync(values['out'], text);
  } catch (error) {
    process.stderr.write(`${bench.id}: ${(error as Error).stack ?? String(error)}\n`);
    process.exitCode = 1;
  } finally {
    await stops.stop().catch((error: unknown) => {
      process.exitCode = 1;
      say(String(error));
    });
  }
}

function argumentsOf(bench: BenchDefinition): Record<string, string | undefined> {
  const names = ['out', ...Object.keys(bench.options)];
  try {
    const { values } = parseArgs({
      args: process.argv.slice(2),
      options: Object.fromEntries(names.map((name) => [name, { type: 'string' as const }])),
    });
    for (const name of Object.keys(bench.options)) {
      const value = values[name];
      if (value !== undefined && !(Number(value) >= 0))
        throw new Error(`--${name}: "${value}" is not a number`);
    }
    return values;
  } catch (error) {
    const known = Object.entries(bench.options).map(([name, value]) => `[--${name} ${value}]`);
    process.stderr.write(`${(error as Error).message}\nusage: ${bench.id} [--out FILE] ${known.join(' ')}\n`);
    process.exit(2);
  }
}
