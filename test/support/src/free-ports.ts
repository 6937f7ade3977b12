import { randomInt } from 'node:crypto';
import { createServer } from 'node:net';

/** Below those that tests name (`--ports-from`), and those that systems take for outgoing connections. */
const LOWEST = 15_000;
const HIGHEST = 21_000;
/** Test files that run at once take ports from slices of their own: one frees a port before it uses it. */
const SLICES = 6;

/** So many ports that were handed out last are not handed out again: tests of one file may run at once. */
const REMEMBERED = 500;
const handedOut = new Set<number>();

/** Ports that were free a moment ago, and that no outgoing connection is given meanwhile. */
export async function freePorts(count: number): Promise<number[]> {
  const found: number[] = [];
  while (found.length < count) {
    const port = LOWEST + slice() * SLICE + randomInt(0, SLICE);
    if (handedOut.has(port)) continue;
    handedOut.add(port);
    for (const oldest of handedOut) {
      if (handedOut.size <= REMEMBERED) break;
      handedOut.delete(oldest);
    }
    if (await isFree(port)) found.push(port);
  }
  return found;
}

const SLICE = (HIGHEST - LOWEST) / SLICES;

/** The runner numbers the files that run at once (`scripts/tap.mjs`). */
function slice(): number {
  return Number(process.env['TAP_JOB_ID'] ?? 0) % SLICES;
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  return await new Promise<boolean>((resolve) => {
    server.once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}
