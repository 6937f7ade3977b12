// Finds the Node that runs Sepia. Plain JS: it must run under Node 20.
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..');
const MIN_MAJOR = 24;

/** The path of a Node ≥ 24: the exact one of the platform package, else the running one; undefined if neither is there. */
export function findNode() {
  const packaged = join(ROOT, 'node_modules', `node-${process.platform}-${process.arch}`, 'bin', 'node');
  if (existsSync(packaged)) return packaged;
  return isRunningNodeFit() ? process.execPath : undefined;
}

export function isRunningNodeFit() {
  return Number(process.versions.node.split('.')[0]) >= MIN_MAJOR;
}

/** What to tell the user when {@link findNode} finds nothing. */
export function noNodeText() {
  const what = `Sepia needs Node ${MIN_MAJOR} or newer; this is ${process.version}`;
  const linux = process.platform === 'linux' && ['x64', 'arm64'].includes(process.arch);
  return linux
    ? `${what}. Run "npm install" here: it brings one along.`
    : `${what} and npm has none for ${process.platform}-${process.arch}: install it first.`;
}
