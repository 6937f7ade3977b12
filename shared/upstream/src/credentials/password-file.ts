import { readFileSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { CodedError, systemCode } from '@sepia/base/errors';
import { throwIfBug } from '@sepia/base/failure';
import type { Logger } from '@sepia/base/log';
import type { CredentialSource, Credentials } from './source.ts';

interface PasswordFileDeps {
  readonly log: Logger;
}

interface PasswordFileOptions {
  readonly username: string;
  readonly file: string;
  /** The config key that names the file, for messages. */
  readonly key: string;
}

/**
 * A password in a file that may be written anew at any time, as Kubernetes does with secrets and renewers with tokens of
 * clouds. It is looked at before each use and read when it changed; while it is empty or cannot be read, as in the
 * middle of being replaced, the last password stays.
 */
export class PasswordFile implements CredentialSource {
  readonly #deps: PasswordFileDeps;
  readonly #options: PasswordFileOptions;
  #password: string;
  #version = '';
  #isBroken = false;

  /** @throws {CodedError} `CONFIG_INVALID` that names the key */
  constructor(deps: PasswordFileDeps, options: PasswordFileOptions) {
    this.#deps = deps;
    this.#options = options;
    const { file, key } = options;
    try {
      this.#password = passwordOf(readFileSync(file, 'utf8'));
    } catch (cause) {
      throwIfBug(cause);
      throw new CodedError('CONFIG_INVALID', {
        message: `${key}: ${file} cannot be read (${systemCode(cause)})`,
        cause,
      });
    }
    if (this.#password === '')
      throw new CodedError('CONFIG_INVALID', { message: `${key}: ${file} is empty` });
  }

  async current(): Promise<Credentials> {
    const { file, key, username } = this.#options;
    try {
      const { mtimeMs, ctimeMs, size, ino } = await stat(file);
      const version = [mtimeMs, ctimeMs, size, ino].join(' ');
      if (version !== this.#version) {
        const found = passwordOf(await readFile(file, 'utf8'));
        if (found !== '') this.#password = found;
        this.#version = version;
      }
      this.#isBroken = false;
    } catch (error) {
      throwIfBug(error);
      if (systemCode(error) === undefined) throw error;
      if (!this.#isBroken)
        this.#deps.log.error(
          { file, reason: systemCode(error) },
          `${key} cannot be read; the last password stays`,
        );
      this.#isBroken = true;
    }
    return { username, password: this.#password };
  }

  /** Files with coarse times may have changed all the same. */
  refused(): void {
    this.#version = '';
  }
}

/** The text of a password file: its line without what ends it. */
function passwordOf(text: string): string {
  return text.trim();
}
