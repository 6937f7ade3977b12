import { z } from 'zod';
import { MEMBER_SCHEMA } from '../document.ts';
import { MEMBERSHIP_SCHEMA } from '../membership.ts';
import { route } from './route.ts';

const MIB = 1024 * 1024;

/** Calls about the ring that origins answer. */
export const ORIGIN_RING = {
  membership: route('ring-membership', 'GET /v1/ring', {
    callers: ['origin', 'agent', 'proxy', 'tracker', 'accelerator', 'cli'],
  }),
  learn: route('ring-learn', 'PUT /v1/ring', { callers: ['origin'], json: MIB }),
  register: route('ring-register', 'POST /v1/ring/register', { callers: ['origin'], json: MIB }),
  status: route('ring-status', 'GET /v1/ring/status', { callers: ['origin', 'cli'] }),
  change: route('ring-change', 'POST /v1/ring/changes', { callers: ['cli'], json: MIB }),
} as const;

/** Answer of `GET /v1/ring`. `founded`: it is agreed; else only what the answering origin's file says. */
export const RING_ANSWER = z.object({ founded: z.boolean(), membership: MEMBERSHIP_SCHEMA });
export type RingAnswer = z.infer<typeof RING_ANSWER>;

/** Body of `POST /v1/ring/changes`. `epoch`: of the membership that the operator saw. */
export const RING_CHANGE = z.union([
  z.strictObject({
    epoch: z.number().int(),
    action: z.literal('add'),
    members: z.array(MEMBER_SCHEMA).max(100),
  }),
  z.strictObject({
    epoch: z.number().int(),
    action: z.enum(['drain', 'remove']),
    ids: z.array(z.string().max(64)).max(100),
  }),
]);

/** What one origin says of the ring and of its part of a change: answer of `GET /v1/ring/status`. */
export interface RingStatus {
  readonly id: string;
  readonly epoch: number;
  /** It counts for all that it owns. */
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
}
