import { z } from 'zod';
import { MEMBER_SCHEMA } from './document.ts';
import type { Membership } from './membership.ts';

/** A later version may say more of a member: it is kept. An earlier one took every text for a zone. */
const KEPT_MEMBER = z.looseObject({ ...MEMBER_SCHEMA.shape, zone: z.string().max(64).optional() });

/** {@link Membership} as it is sent and kept; fields that are not known here are kept (ADR 0012). */
export const MEMBERSHIP_SCHEMA: z.ZodType<Membership> = z.looseObject({
  v: z.literal(1),
  epoch: z.number().int().nonnegative(),
  origins: z.array(KEPT_MEMBER).max(1_000),
  before: z.array(KEPT_MEMBER).max(1_000).exactOptional(),
  change: z.string().max(4_096).exactOptional(),
  lineage: z
    .array(z.looseObject({ epoch: z.number().int().nonnegative(), hash: z.string().max(128) }))
    .max(1_000)
    .exactOptional(),
});

/** Answer of `GET /v1/ring`. `founded`: it is agreed; else only what the answering origin's file says. */
export const RING_ANSWER = z.object({ founded: z.boolean(), membership: MEMBERSHIP_SCHEMA });
/** The membership that an origin follows, see {@link RING_ANSWER}. */
export type RingAnswer = z.infer<typeof RING_ANSWER>;

/** Body of `POST /v1/ring/changes`, strict as an operator's order is. `epoch`: of the membership that the operator saw. */
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
