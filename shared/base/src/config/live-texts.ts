import { readFileSync, statSync } from 'node:fs';
import { CodedError, systemCode } from '../errors.ts';
import { throwIfBug } from '../failure.ts';
import type { Logger } from '../log.ts';

/** Certificates, keys, passwords and the like are looked at so often at most. */
const FILE_LOOK_MS = 1_000;

/** A file, and the config key that names it, for messages. */
export interface NamedFile {
  readonly file: string;
  readonly key: string;
}

/** What a text comes from: a file, or it stands here for good. */
export type TextSource = NamedFile | string;

/** Who is told of what was read again, and since when. */
export interface LiveTextsDeps {
  readonly log: Pick<Logger, 'info' | 'error'>;
  readonly nowMs: () => number;
}

/** Texts by name, of those that have a source. */
export type Texts<Name extends string> = Readonly<Partial<Record<Name, string>>>;

/** Where each text comes from, by its name; a text that a config leaves out has none. */
export type TextSources<Name extends string> = Readonly<Partial<Record<Name, TextSource | undefined>>>;

/**
 * Texts of files that belong together and may be written anew at any time, as renewers of certificates and passwords do. They are looked
 * at when they are used, once a second at most; while one cannot be read, or they do not fit each other, as in the middle of
 * being replaced, those that were read last stay.
 */
export class LiveTexts<Name extends string> {
  readonly #deps: LiveTextsDeps;
  readonly #sources: readonly (readonly [Name, TextSource])[];
  readonly #files: readonly NamedFile[];
  readonly #check: (texts: Texts<Name>) => void;
  #texts: Texts<Name>;
  #version: string;
  #lookedAtMs: number;
  #isBroken = false;

  /** `check` throws `CONFIG_INVALID` for texts that cannot be used. @throws the same, and for a file that cannot be read */
  constructor(deps: LiveTextsDeps, sources: TextSources<Name>, check: (texts: Texts<Name>) => void) {
    this.#deps = deps;
    this.#check = check;
    this.#sources = (Object.entries(sources) as [Name, TextSource | undefined][]).flatMap(([name, source]) =>
      source === undefined ? [] : [[name, source] as const],
    );
    this.#files = this.#sources.flatMap(([, source]) => (typeof source === 'string' ? [] : [source]));
    this.#lookedAtMs = deps.nowMs();
    this.#version = this.#versionNow();
    this.#texts = this.#read();
  }

  /** The same object as long as nothing has changed. */
  current(): Texts<Name> {
    const nowMs = this.#deps.nowMs();
    if (this.#files.length === 0 || nowMs - this.#lookedAtMs < FILE_LOOK_MS) return this.#texts;
    this.#lookedAtMs = nowMs;
    const keys = this.#files.map(({ key }) => key);
    try {
      const version = this.#versionNow();
      if (version === this.#version) return this.#texts;
      this.#texts = this.#read();
      this.#version = version;
      this.#isBroken = false;
      this.#deps.log.info({ keys }, 'files were read again');
    } catch (error) {
      throwIfBug(error);
      if (!this.#isBroken)
        this.#deps.log.error(
          { keys, reason: (error as Error).message },
          'files cannot be used; what was read last stays',
        );
      this.#isBroken = true;
    }
    return this.#texts;
  }

  #read(): Texts<Name> {
    const texts = Object.fromEntries(this.#sources.map(([name, source]) => [name, textOf(source)]));
    this.#check(texts as Texts<Name>);
    return texts as Texts<Name>;
  }

  #versionNow(): string {
    return this.#files.map(versionOf).join('\n');
  }
}

function textOf(source: TextSource): string {
  return typeof source === 'string' ? source : readText(source);
}

/** @throws {CodedError} `CONFIG_INVALID` that names the key */
export function readText({ file, key }: NamedFile): string {
  return orRefused({ file, key }, () => readFileSync(file, 'utf8'));
}

function versionOf(named: NamedFile): string {
  const { mtimeMs, ctimeMs, size, ino } = orRefused(named, () => statSync(named.file));
  return [mtimeMs, ctimeMs, size, ino].join(' ');
}

function orRefused<T>({ file, key }: NamedFile, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    throwIfBug(cause);
    throw new CodedError('CONFIG_INVALID', {
      message: `${key}: ${file} cannot be read (${systemCode(cause)})`,
      cause,
    });
  }
}
