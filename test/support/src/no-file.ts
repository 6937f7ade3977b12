import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** Puts something at `path`; `outside` is a file that nobody may touch. */
export type Put = (path: string, outside: string) => void;

/** What is no file and may lie at the place of one, by how it is put there. */
export const NO_FILES: Readonly<Record<string, Put>> = {
  'an empty folder': (path) => mkdirSync(path),
  'a folder with something in it': (path) => {
    mkdirSync(path);
    writeFileSync(join(path, 'kept'), 'x');
  },
  'a link to a file outside': (path, outside) => symlinkSync(outside, path),
  'a link to a folder': (path, outside) => symlinkSync(dirname(outside), path),
  'a link to nowhere': (path) => symlinkSync('nowhere', path),
  'a link to itself': (path) => symlinkSync(path, path),
  'a pipe': (path) => execFileSync('mkfifo', [path]),
  'a device': (path) => symlinkSync('/dev/zero', path),
};
