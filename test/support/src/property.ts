import fc from 'fast-check';
import { SEED } from './seeded.ts';

/**
 * fast-check as all property tests use it: its cases follow from the variable `SEED` (1 where it is not set), so that
 * a run can be repeated and a commit is judged by the same cases on every machine. New cases: `SEED=$RANDOM npm test`.
 */
fc.configureGlobal({ seed: SEED });

export { fc };
