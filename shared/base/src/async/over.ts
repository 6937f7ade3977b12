import { CodedError } from '../errors.ts';

/**
 * Reason of a signal whose work has ended well: nobody reads it. One for all, because each error takes the stack of its place
 * when it is made, and a small push ends some forty waits.
 */
export const OVER = new CodedError('TIMEOUT', { message: 'what it was for is over' });
