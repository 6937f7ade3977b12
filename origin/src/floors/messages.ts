import { FLOORED_SPACES } from '@sepia/records/store/floors';
import { z } from 'zod';

const CLOCK = z.number().finite().nonnegative();
const WHOLE = z.number().int().nonnegative();
const HOW = z.enum(['handover', 'repair']);
const KEY = z.string().min(1).max(8_192);
const MAX_BUCKETS = 20_000;
const MAX_LISTED = 10_000;

const FLOOR = z
  .object({ promisedMs: CLOCK, agreedMs: CLOCK })
  .refine(({ promisedMs, agreedMs }) => agreedMs <= promisedMs, {
    message: 'agrees on more than it promises',
  });
const NAME = z.string().min(1).max(512);
/** Without the marks that part keys on the disk. */
const KEY_PART = z
  .string()
  .min(1)
  .max(512)
  .refine((text) => !text.includes('\0') && !text.includes('\x01'), { message: 'has a mark in it' });

/** Body of `POST /v1/floors/promise`. */
export const PROMISE_BODY = z.object({ atMs: WHOLE, epoch: WHOLE });
/** Answer of it. */
export const PROMISED = z.object({ digest: z.string().regex(/^[0-9a-f]{64}$/) });
/** Body of `POST /v1/floors/agree`. `generation`: of this origin as it told what it has. */
export const AGREE_BODY = z.object({ atMs: WHOLE, epoch: WHOLE, generation: WHOLE });
/** Body of `POST /v1/floors/list`. */
export const LIST_BODY = z.object({
  how: HOW,
  after: KEY.optional(),
  buckets: z.array(z.string().max(4_096)).max(MAX_BUCKETS),
});
/** Answer of it. */
export const FLOOR_LIST = z.object({
  floors: z.array(z.intersection(z.object({ upstream: NAME, repository: NAME }), FLOOR)).max(MAX_LISTED),
  next: KEY.optional(),
});
/** Body of `POST /v1/floors/page`. */
export const PAGE_BODY = z.object({ how: HOW, space: z.enum(FLOORED_SPACES), after: KEY.optional() });
/** Answer of it. */
export const FLOOR_PAGE = z.object({
  floor: FLOOR,
  entries: z
    .array(
      z.object({
        key: z.array(KEY_PART).min(1).max(4),
        atMs: CLOCK,
        value: z.record(z.string(), z.unknown()).optional(),
        fieldMs: z.record(z.string(), CLOCK).optional(),
        deadMs: z.number().finite().optional(),
      }),
    )
    .max(MAX_LISTED),
  next: KEY.optional(),
});
