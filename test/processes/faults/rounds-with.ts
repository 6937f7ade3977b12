import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type { SabotageName } from '../../torture/sabotage/names.ts';

const MAIN = join(import.meta.dirname, '../../torture/main.ts');

interface Result {
  readonly code: number;
  readonly seed: number;
  readonly lost: number;
  readonly corrupt: number;
  readonly stale: number;
}

/** Six rounds of one seed with liars among the members, ended by the first that finds them. */
export async function roundsWith(sabotage: SabotageName): Promise<Result> {
  const asked = ['--rounds', '6', '--seed', '2', '--origins', '3', '--disks', 'off'];
  const args = [MAIN, ...asked, '--sabotage', sabotage, '--json'];
  const tool = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  tool.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString('utf8');
  });
  const [code] = (await once(tool, 'close')) as [number];
  return { code, ...(JSON.parse(output) as Omit<Result, 'code'>) };
}
