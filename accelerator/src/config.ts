import { COMMON_KEYS } from '@sepia/base/config/member-keys';
import { checkOwnAddresses } from '@sepia/base/config/own-addresses';
import { duration, hostPort, pathText } from '@sepia/base/config/units';
import { z } from 'zod';

const ACCOUNT = z.strictObject({
  username: z.string().min(1).describe('Account that writes results.'),
  'password-file': pathText().describe(
    'File with its password, relative to this file; read again when it changes.',
  ),
});

const API = z
  .strictObject({
    'authorization-file': pathText()
      .optional()
      .describe(
        'File with the Authorization header that POST /api/v1/conversions must carry, to the letter, relative to this file; read again when it changes; left out: it is refused.',
      ),
    read: z
      .enum(['anyone', 'members'])
      .default('members')
      .describe('Who may read GET /api/v1/conversions; members: signed with the cluster key.'),
  })
  .prefault({});

const KEYS = z.strictObject({
  ...COMMON_KEYS,
  listen: hostPort().describe('Address of /api/v1.'),
  workers: z.number().int().min(1).max(16).default(1).describe('Images converted at once.'),
  threads: z
    .number()
    .int()
    .min(1)
    .max(256)
    .optional()
    .describe('Compression threads for all of them; left out: one per core, fewer where memory is short.'),
  scan: duration({ least: '1s', most: '24d' })
    .prefault('1h')
    .describe('How often all tags that rules name are looked at, for what no webhook told.'),
  credentials: z
    .record(z.string(), ACCOUNT)
    .default({})
    .describe('Accounts by upstream name; without one, results are written without credentials.'),
  api: API.describe("Harbor's acceleration-service API."),
});

/** Config file of an accelerator. */
export const ACCELERATOR_CONFIG = KEYS.superRefine((config, ctx) =>
  checkOwnAddresses(
    [
      [['listen'], config.listen],
      [['admin-listen'], config['admin-listen']],
    ],
    ctx,
  ),
);

export type AcceleratorConfig = z.infer<typeof ACCELERATOR_CONFIG>;

/** Keys that SIGHUP puts in force. */
export const RELOADED = ['log.level', 'workers'] as const;
