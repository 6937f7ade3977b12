import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import t from 'tap';

const MAIN = join(import.meta.dirname, '../../torture/main.ts');

t.test('a proxy that drops a chunk is found out', async (t) => {
  const args = [
    MAIN,
    '--rounds',
    '6',
    '--seed',
    '2',
    '--origins',
    '3',
    '--sabotage',
    'chunk-dropped',
    '--json',
  ];
  const tool = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  let output = '';
  tool.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString('utf8');
  });
  const [code] = (await once(tool, 'exit')) as [number];
  t.equal(code, 1);
  const { corrupt, seed } = JSON.parse(output) as { corrupt: number; seed: number };
  t.ok(corrupt > 0, `${corrupt} wrong bodies`);
  t.equal(seed, 2);
});
