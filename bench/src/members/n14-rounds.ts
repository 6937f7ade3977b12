import { spawn } from 'node:child_process';
import { resolve } from 'node:path';
import { round } from '../support/figures.ts';
import { type BenchContext, runBench } from '../support/run.ts';

const TEST = resolve(import.meta.dirname, '../../../test');

/** What `npm run torture -- --json` ends with. */
interface TortureResult {
  readonly lost: number;
  readonly corrupt: number;
  readonly stale: number;
  readonly answered: number;
  readonly refused: number;
}

await runBench({
  id: 'n14-rounds',
  claim:
    'N14: pushes that were acknowledged while members were killed: lost 0, corrupt 0 (200 rounds before a release)',
  options: { kills: 200, torture: 40, seed: 1 },
  run: async (context) => ({ kills: await kills(context), torture: await torture(context) }),
});

/** `test/processes/faults/kill-rounds.test.ts`: kill -9 during pushes, then every acknowledged tag is pulled. */
async function kills(context: BenchContext): Promise<Record<string, unknown>> {
  const file = resolve(TEST, 'processes/faults/kill-rounds.test.ts');
  // tap ends a file after 30 s unless it is told otherwise.
  const env = {
    ROUNDS: String(context.number('kills')),
    SEED: String(context.number('seed')),
    TAP_TIMEOUT: '0',
  };
  const { code, stdout, seconds } = await tool(context, 'kills', [file], env);
  const told = /ok \d+ - (\d+ pushes were acknowledged, \d+ failed clearly)/.exec(stdout)?.[1];
  if (told === undefined) throw new Error(`kill-rounds did not say what became of its pushes: exit ${code}`);
  const lost = [...stdout.matchAll(/not ok \d+ - .*is lost/g)].length;
  return { rounds: context.number('kills'), told, lost, exit: code, seconds };
}

/** `npm run torture`: every fault, judged after each round. */
async function torture(context: BenchContext): Promise<Record<string, unknown>> {
  const rounds = ['--rounds', String(context.number('torture')), '--seed', String(context.number('seed'))];
  const args = [resolve(TEST, 'torture/main.ts'), ...rounds, '--json'];
  const { code, stdout, seconds } = await tool(context, 'torture', args, {});
  const { lost, corrupt, stale, answered, refused } = JSON.parse(stdout) as TortureResult;
  return { rounds: context.number('torture'), lost, corrupt, stale, answered, refused, exit: code, seconds };
}

async function tool(
  { say, stops }: BenchContext,
  name: string,
  args: readonly string[],
  env: Readonly<Record<string, string>>,
): Promise<{ code: number | null; stdout: string; seconds: number }> {
  const fromMs = performance.now();
  const child = spawn(process.execPath, args, {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  });
  stops.push(name, () => {
    child.kill('SIGTERM');
  });
  let stdout = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text;
  });
  const code = await new Promise<number | null>((settle, reject) => {
    child.once('error', reject);
    child.once('close', settle);
  });
  const seconds = round((performance.now() - fromMs) / 1000, 1);
  say(`${name} ended with ${code} after ${seconds} s`);
  return { code, stdout, seconds };
}
