import { spawn } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { basename, join } from 'node:path';

/** `npm run bench`: lists the benches; with a name (or a part of it, such as `n2`) runs that one. */
const files = ['.', 'swarm', 'members'].flatMap((folder) =>
  readdirSync(join(import.meta.dirname, folder))
    .filter((file) => /^(?!main\.).+\.ts$/.test(file))
    .map((file) => join(import.meta.dirname, folder, file)),
);
const names = files.map((file) => basename(file, '.ts'));
const [wanted, ...args] = process.argv.slice(2);
const name =
  names.find((one) => one === wanted) ??
  names.find((one) => wanted !== undefined && one.split('-').includes(wanted));
if (name === undefined) {
  const text = `usage: npm run bench -- NAME [--out FILE] [options]; there are:\n${names.map((one) => `  ${one}\n`).join('')}`;
  (wanted === undefined ? process.stdout : process.stderr).write(text);
  process.exitCode = wanted === undefined ? 0 : 2;
} else {
  const child = spawn(process.execPath, [files[names.indexOf(name)]!, ...args], { stdio: 'inherit' });
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => child.kill(signal));
  child.once('exit', (code) => {
    process.exitCode = code ?? 1;
  });
}
