import { ENCRYPTIONS } from '@sepia/base/config/encryption';
import { bytes, duration } from '@sepia/base/config/units';
import { z } from 'zod';

/** Which blobs standard BitTorrent clients may have. */
export const STRANGERS_POLICIES = ['never', 'public-repositories', 'always'] as const;
/** Which blobs standard BitTorrent clients may have, see {@link STRANGERS_POLICIES}. */
export type StrangersPolicy = (typeof STRANGERS_POLICIES)[number];

/** Section `policies` of the cluster document. */
export const POLICIES = z.strictObject({
  encryption: z
    .enum(ENCRYPTIONS)
    .default('off')
    .describe(
      'Whether members encrypt what they say to each other, calls and pieces alike, with TLS by the cluster key. accept: they take it, and dial in plain. on: they dial with it, and take both. require: a member that comes in plain is refused. A running cluster goes from off to require by each of these steps, all members restarted at each.',
    ),
  strangers: z
    .enum(STRANGERS_POLICIES)
    .default('never')
    .describe(
      'Whether standard BitTorrent clients may take part. public-repositories: in blobs of repositories that anybody may read without credentials. always: in every blob of the cluster; whoever reaches a tracker may then have it.',
    ),
  'stranger-slots': z
    .number()
    .int()
    .min(1)
    .max(100)
    .default(8)
    .describe('Standard clients that each origin and agent serves at once; the others wait their turn.'),
  'stranger-rate': bytes({ least: '64KiB', orZero: true })
    .prefault('32MiB')
    .describe(
      'Bytes per second that each origin and agent serves them, all together; while it serves a member, a sixteenth. 0: it serves them nothing.',
    ),
  'stranger-interval': duration({ least: '5s', most: '1h' })
    .prefault('1m')
    .describe(
      'How often they are to announce themselves; who is silent for two and a half times as long is forgotten.',
    ),
});
