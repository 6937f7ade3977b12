// node member.mjs MAIN [ARGUMENT…]: runs a member's program; its sources come without their types.
import { pathToFileURL } from 'node:url';
import { takeSourcesWithoutTypes } from './sources.mjs';

takeSourcesWithoutTypes();
process.argv.splice(1, 1);
await import(pathToFileURL(process.argv[1]).href);
