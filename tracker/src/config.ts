import { COMMON_KEYS } from '@sepia/base/config/member-keys';
import { checkOwnAddresses } from '@sepia/base/config/own-addresses';
import { bytes, duration, hostPort } from '@sepia/base/config/units';
import { z } from 'zod';

const KEYS = z.strictObject({
  ...COMMON_KEYS,
  listen: hostPort().describe('Address of the tracker (signed calls; announce and scrape).'),
  heartbeat: duration({ least: '1s', most: '10m' })
    .prefault('10s')
    .describe('How often nodes renew their lease.'),
  'metainfo-cache': bytes({ least: '1MiB' })
    .prefault('256MiB')
    .describe('Memory for metainfo of finished blobs; at most an eighth of what this process may use.'),
});

/** Config file of a tracker. */
export const TRACKER_CONFIG = KEYS.superRefine((config, ctx) =>
  checkOwnAddresses(
    [
      [['listen'], config.listen],
      [['admin-listen'], config['admin-listen']],
    ],
    ctx,
  ),
);

export type TrackerConfig = z.infer<typeof TRACKER_CONFIG>;
