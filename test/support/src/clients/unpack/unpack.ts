import { type ChildProcess, spawn } from 'node:child_process';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import { builtProgram } from '../../built-program.ts';

const SCRIPT = join(import.meta.dirname, 'unpack.sh');

/** The program that unpacks as containerd does, or undefined where it was not built. */
export function unpackProgram(): string | undefined {
  return builtProgram(SCRIPT);
}

/** Unpacks layers with containerd's own code, each into a folder of its own, as its overlayfs snapshotter has them. */
export class Unpacker {
  readonly #process: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly #input: Interface;

  constructor() {
    const child = spawn(unpackProgram()!, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#process = child;
    this.#input = createInterface({ input: child.stdout });
    this.#lines = this.#input[Symbol.asyncIterator]();
  }

  /**
   * @param below folders of the layers below, the nearest first
   * @returns why containerd would not unpack it
   */
  async unpack(tar: string, folder: string, below: readonly string[]): Promise<string | undefined> {
    this.#process.stdin!.write(`${tar}\t${folder}\t${below.join(':')}\n`);
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error('the unpacker ended');
    return value === 'ok' ? undefined : value;
  }

  stop(): void {
    this.#process.stdin!.end();
    this.#input.close();
  }
}
