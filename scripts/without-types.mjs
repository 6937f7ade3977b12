// node --import …/without-types.mjs MAIN [ARGUMENT…]: MAIN, and its workers, take their sources without types.
import { takeSourcesWithoutTypes } from './sources.mjs';

takeSourcesWithoutTypes();
