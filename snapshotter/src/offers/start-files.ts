import { posix } from 'node:path';
import type { StartCommand } from '@sepia/cluster/api/lazy-offers';
import { type ElfNeeds, elfNeeds } from '@sepia/lazy/elf/elf-needs';
import type { TreeNode } from '@sepia/lazy/erofs/layer-tree';
import { type Found, findMerged } from '@sepia/lazy/erofs/merged-tree';

interface Deps {
  /** Trees of the image's layers, from the bottom to the top. */
  readonly trees: readonly TreeNode[];
  /** Bytes of a file; fewer where it ends before. */
  readonly read: (file: Found, offset: number, length: number) => Promise<Uint8Array>;
  /** A part of a file that the start reads: called once for each, in the order in which it does. */
  readonly onPart: (file: Found, offset: number, length: number) => void;
}

const MIB = 1024 * 1024;
/** Files that are looked into. */
const MAX_FILES = 200;
/** Words of a command that may name a program or a script. */
const MAX_WORDS = 8;
/** Larger files are read here and there: their beginning, and their end with what the linker writes to. */
const WHOLE_BYTES = 8 * MIB;
const HEAD_BYTES = 4 * MIB;
const TAIL_BYTES = 2 * MIB;
const SCRIPT_BYTES = 256;
const TRIPLETS: Readonly<Record<number, string>> = {
  3: 'i386-linux-gnu',
  40: 'arm-linux-gnueabihf',
  62: 'x86_64-linux-gnu',
  183: 'aarch64-linux-gnu',
  243: 'riscv64-linux-gnu',
};
const LIBRARY_FOLDERS = ['/lib', '/usr/lib', '/lib64', '/usr/lib64', '/usr/local/lib'];

/**
 * Says what the start of an image reads first where nobody recorded one: the program of its config, the interpreter that a
 * script names, the dynamic linker, the libraries, and files that its command names. A guess: a file that is not found or
 * cannot be read ends its own branch.
 */
export async function findStartFiles(deps: Deps, command: StartCommand): Promise<void> {
  await new StartFiles(deps, command).run();
}

class StartFiles {
  readonly #deps: Deps;
  readonly #command: StartCommand;
  readonly #seen = new Set<string>();

  constructor(deps: Deps, command: StartCommand) {
    this.#deps = deps;
    this.#command = command;
  }

  async run(): Promise<void> {
    const { words } = this.#command;
    // One after the other: what is started first is read first.
    for (const word of words.slice(0, MAX_WORDS)) {
      const file = word.startsWith('-') ? undefined : this.#program(word);
      if (file !== undefined) await this.#add(file);
    }
  }

  /** Names the file, then what it needs, breadth first: the linker reads all libraries of a program before theirs. */
  async #add(file: Found): Promise<void> {
    let level = this.#named([file]);
    while (level.length > 0) {
      const needed = await Promise.all(level.map(async (one) => await this.#needsOf(one)));
      level = this.#named(needed.flat());
    }
  }

  #named(files: readonly Found[]): Found[] {
    const fresh: Found[] = [];
    for (const file of files) {
      if (file.node.type !== 'file' || file.node.size === 0) continue;
      if (this.#seen.has(file.path) || this.#seen.size >= MAX_FILES) continue;
      this.#seen.add(file.path);
      fresh.push(file);
      this.#tell(file);
    }
    return fresh;
  }

  #tell(file: Found): void {
    const { onPart } = this.#deps;
    const { size } = file.node;
    if (size <= WHOLE_BYTES) onPart(file, 0, size);
    else {
      onPart(file, 0, HEAD_BYTES);
      onPart(file, size - TAIL_BYTES, TAIL_BYTES);
    }
  }

  async #needsOf(file: Found): Promise<Found[]> {
    const read = async (offset: number, length: number): Promise<Uint8Array> => {
      const most = Math.min(length, file.node.size - offset);
      return most <= 0 ? new Uint8Array() : await this.#deps.read(file, offset, most);
    };
    const head = Buffer.from(await read(0, SCRIPT_BYTES));
    if (head.toString('latin1', 0, 2) === '#!') return this.#interpreters(head);
    const needs = await elfNeeds(read);
    return needs === undefined ? [] : this.#linked(file, needs);
  }

  #interpreters(head: Buffer): Found[] {
    const line = head.toString('utf8', 2).split('\n')[0]!.trim();
    const words = line.split(/\s+/).filter((word) => !word.startsWith('-') && !word.includes('='));
    return words.slice(0, 2).flatMap((word) => this.#program(word) ?? []);
  }

  #linked(file: Found, { interpreter, libraries, folders, machine }: ElfNeeds): Found[] {
    const origin = posix.dirname(file.path);
    const own = folders.map((one) => one.replace(/\$\{?ORIGIN\}?/g, origin));
    const triplet = TRIPLETS[machine];
    const multiarch = triplet === undefined ? [] : [`/lib/${triplet}`, `/usr/lib/${triplet}`];
    const all = [...own, ...this.#command.loaderPath.split(':'), ...multiarch, ...LIBRARY_FOLDERS];
    const absolute = all.filter((folder) => folder.startsWith('/'));
    const linker = interpreter === undefined ? undefined : this.#file(interpreter);
    return [
      ...(linker === undefined ? [] : [linker]),
      ...libraries.flatMap((name) =>
        name.includes('/') ? (this.#file(name) ?? []) : (this.#firstIn(absolute, name) ?? []),
      ),
    ];
  }

  #program(word: string): Found | undefined {
    if (word.includes('/')) return this.#file(posix.resolve('/', this.#command.folder, word));
    return this.#firstIn(this.#command.path.split(':'), word);
  }

  #firstIn(folders: readonly string[], name: string): Found | undefined {
    for (const folder of folders) {
      const file = folder.startsWith('/') ? this.#file(`${folder}/${name}`) : undefined;
      if (file !== undefined) return file;
    }
    return undefined;
  }

  #file(path: string): Found | undefined {
    const found = findMerged(this.#deps.trees, path);
    return found?.node.type === 'file' ? found : undefined;
  }
}
