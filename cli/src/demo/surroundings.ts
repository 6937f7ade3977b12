import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import { isRunning } from '@sepia/base/process';
import { type ClusterShape, DEFAULT_COUNTS, DEFAULT_PORTS_FROM, planMembers } from '../up/plan.ts';
import { takenPort } from '../up/ports.ts';

const OTHER_BASES = [27_000, 37_000, 47_000, 19_000, 29_000, 39_000, 49_000];
const PREFIX = 'sepia-demo-';

/** The default ports, or others when one of them is taken; `note` says so. @throws {CodedError} `START_FAILED` */
export async function chooseShape(): Promise<{ shape: ClusterShape; note: string | undefined }> {
  let first: string | undefined;
  for (const portsFrom of [DEFAULT_PORTS_FROM, ...OTHER_BASES]) {
    const shape: ClusterShape = { counts: DEFAULT_COUNTS, portsFrom };
    const taken = await takenPort(planMembers(shape));
    if (taken === undefined)
      return {
        shape,
        note: first === undefined ? undefined : `${first}: ports from ${portsFrom} on are used instead.`,
      };
    first ??= `Port ${taken.port} is taken`;
  }
  throw new CodedError('START_FAILED', {
    message: `${first}, and so are the ports from ${OTHER_BASES.join(', ')} on; stop something first`,
  });
}

/** A temporary folder named after this process; what killed demos left behind is removed first. */
export class DemoFolder {
  readonly #root: string;
  #path: string | undefined;

  constructor(root: string = tmpdir()) {
    this.#root = root;
  }

  /** @throws {CodedError} `START_FAILED` where nothing can be written to the system's folder for such */
  create(): string {
    const root = this.#root;
    try {
      for (const name of readdirSync(root)) {
        const pid = Number(new RegExp(`^${PREFIX}(\\d+)-`).exec(name)?.[1] ?? 'none');
        if (Number.isSafeInteger(pid) && !isRunning(pid)) removeIfOurs(join(root, name));
      }
      this.#path = mkdtempSync(join(root, `${PREFIX}${process.pid}-`));
    } catch (cause) {
      throwIfBug(cause);
      throw new CodedError('START_FAILED', {
        message: `no folder can be made in ${root} (${systemCode(cause)}); set TMPDIR to one that can be written to`,
        cause,
      });
    }
    return this.#path;
  }

  remove(): void {
    if (this.#path !== undefined) rmSync(this.#path, { recursive: true, force: true });
    this.#path = undefined;
  }
}

/** What another user's demo left is for that user to remove. */
function removeIfOurs(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch (error) {
    throwIfBug(error);
    const code = systemCode(error);
    if (code !== 'EACCES' && code !== 'EPERM') throw error;
  }
}
