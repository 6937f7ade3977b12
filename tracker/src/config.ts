import { COMMON_KEYS } from '@sepia/base/config/member-keys';
import { bytes, duration, hostPort } from '@sepia/base/config/units';
import { z } from 'zod';

/** Config file of a tracker. */
export const TRACKER_CONFIG = z.strictObject({
  ...COMMON_KEYS,
  listen: hostPort().describe('Address of the tracker (signed calls; announce and scrape).'),
  heartbeat: duration().prefault('10s').describe('How often nodes renew their lease.'),
  'metainfo-cache': bytes().prefault('256MiB').describe('Memory for metainfo of finished blobs.'),
});

export type TrackerConfig = z.infer<typeof TRACKER_CONFIG>;
