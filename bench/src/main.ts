import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';

/** `npm run bench`: lists the benches; with a name (or its beginning, such as `n2`) runs that one. */
const names = readdirSync(import.meta.dirname)
  .map((file) => /^(?!main)(.+)\.ts$/.exec(file)?.[1])
  .filter((name) => name !== undefined);
const [wanted, ...args] = process.argv.slice(2);
const name =
  names.find((one) => one === wanted) ??
  names.find((one) => wanted !== undefined && one.split('-').includes(wanted));
if (name === undefined) {
  const text = `usage: npm run bench -- NAME [--out FILE] [options]; there are:\n${names.map((one) => `  ${one}\n`).join('')}`;
  (wanted === undefined ? process.stdout : process.stderr).write(text);
  process.exitCode = wanted === undefined ? 0 : 2;
} else {
  const child = spawn(process.execPath, [join(import.meta.dirname, `${name}.ts`), ...args], {
    stdio: 'inherit',
  });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
  child.once('exit', (code) => {
    process.exitCode = code ?? 1;
  });
}
