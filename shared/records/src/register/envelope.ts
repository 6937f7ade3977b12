import { laterFormat } from '@sepia/base/errors';
import type { RegisterValue } from './register.ts';

/** What a register holds on its acceptors: the value, and the newest changes that made it, oldest first. */
export interface Envelope {
  readonly v: 1;
  readonly value?: RegisterValue;
  readonly recent: readonly string[];
}

/** Changes remembered in a register: one of them whose answer was lost is not made again. */
const RECENT_CHANGES = 32;

/** The value within what an acceptor keeps of a register (it need not be chosen). @throws `DISK_FORMAT` */
export function settledValue<T>(key: string, found: RegisterValue): T | undefined {
  return parseEnvelope(key, found).value as T | undefined;
}

/** A value after the change that is the last of `recent`. */
export function envelope(value: RegisterValue, recent: readonly string[]): Envelope {
  return { v: 1, ...(value === undefined ? {} : { value }), recent: recent.slice(-RECENT_CHANGES) };
}

/** @throws `DISK_FORMAT` for a record of a newer version */
export function parseEnvelope(key: string, found: RegisterValue): Envelope {
  if (found === undefined) return { v: 1, recent: [] };
  const one = found as Partial<Envelope> | null;
  if (typeof one === 'object' && one?.v === 1 && Array.isArray(one.recent)) return one as Envelope;
  throw laterFormat('the content of a register', one?.v, 1, { key });
}
