// Takes the types out of all sources here and keeps the rest, once for all: what builds an image runs it.
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './node24.mjs';
import { keepWithoutTypes } from './sources.mjs';

for (const file of globSync('{*,shared/*}/src/**/*.ts', { cwd: ROOT })) keepWithoutTypes(join(ROOT, file));
