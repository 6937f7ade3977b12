import { route } from './route.ts';

const MIB = 1024 * 1024;

/** Calls that origins answer about the membership of the ring and its changes; each row names who may make it. */
export const ORIGIN_RING = {
  membership: route('ring-membership', 'GET /v1/ring', {
    callers: ['origin', 'agent', 'proxy', 'tracker', 'accelerator', 'cli'],
  }),
  learn: route('ring-learn', 'PUT /v1/ring', { callers: ['origin'], json: MIB }),
  register: route('ring-register', 'POST /v1/ring/register', { callers: ['origin'], json: MIB }),
  status: route('ring-status', 'GET /v1/ring/status', { callers: ['origin', 'cli'] }),
  change: route('ring-change', 'POST /v1/ring/changes', { callers: ['cli'], json: MIB }),
} as const;

/** What one origin says of the ring and of its part of a change: answer of `GET /v1/ring/status`. */
export interface RingStatus {
  readonly id: string;
  readonly epoch: number;
  /** Number of its data folder's generation: a folder with another one lacks the records of this one. */
  readonly generation: number;
  /** It counts in the majorities of all records that it owns. */
  readonly isSettled: boolean;
  /** Its part of the change is done; true where none is under way. */
  readonly isDone: boolean;
  /** The last epoch under which it settled the registers that it is the first old owner of. */
  readonly hasLed: number;
  /** What it does now, in words; undefined if nothing. */
  readonly doing?: string;
  /** 0 to 1, of its part. */
  readonly share: number;
  /** Registers settled under the change, pushed blobs still to get, copies still to send. */
  readonly registers: number;
  readonly blobsOwed: number;
  readonly copiesOwed: number;
  /** Pushed blobs that moved away, and whose owners did not confirm yet that they have them; undefined before they were looked through. */
  readonly leftovers?: number;
  /** Records that moved away and are still here: not all of their owners said yet that they have them. Undefined as above. */
  readonly formerRecords?: number;
  /** It knows that what is not there may be below a floor; undefined of older versions. */
  readonly knowsFloors?: true;
  /** It looks at the floors of a shared table with each write; undefined of older versions. */
  readonly knowsSharedFloors?: true;
}
