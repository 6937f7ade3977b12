import { CACHE_KEYS, COMMON_KEYS, SCRUB_KEYS } from '@sepia/base/config/member-keys';
import { checkOwnAddresses, ownAddresses } from '@sepia/base/config/own-addresses';
import { bytes, duration, hostPort, pathText } from '@sepia/base/config/units';
import { FIRST_ANSWER_MS } from '@sepia/cluster/deadlines';
import { MAX_BLOB_BYTES } from '@sepia/metainfo/metainfo';
import { z } from 'zod';

/** Clocks of members may be this far apart: signatures are as patient. */
const LEAST_TOMBSTONES = '1m';
/** As long as members wait for one who asks an upstream. */
const MOST_FIRST_BYTE = `${FIRST_ANSWER_MS.upstream / 1_000}s`;

const DEADLINES = z
  .strictObject({
    'fetch-progress': duration({ least: '500ms', most: '1h' })
      .prefault('10s')
      .describe('A fetch from an upstream that gets less than 1 KiB in this time fails with 503.'),
    'first-byte': duration({ least: '500ms', most: MOST_FIRST_BYTE, because: 'members wait no longer' })
      .prefault('60s')
      .describe(
        'An upstream that has not begun to answer may think this long, as registries do that fetch from another one first; while its connection lives that is progress.',
      ),
    'body-stall': duration({ least: '1s', most: '1h' })
      .prefault('30s')
      .describe('An answer that makes no verified progress for this long is cut.'),
    'copy-straggler': duration({ least: '1s', most: '1h' })
      .prefault('10s')
      .describe(
        'A copy that is this much slower than the one that made the write quorum is cut and made later.',
      ),
    'upload-idle': duration({ least: '1s', most: '3660d' })
      .prefault('1h')
      .describe(
        'An upload session that gets no request for this long ends; one without a byte after 5 minutes.',
      ),
    'swarm-idle': duration({ least: '1s', most: '3660d' })
      .prefault('10m')
      .describe('A swarm that nobody asked about for this long is left.'),
    drain: duration({ least: '0s', most: '1h' })
      .prefault('10s')
      .describe('How long requests under way may take at a stop.'),
  })
  .prefault({});

const CREDENTIALS = z
  .strictObject({
    username: z.string().min(1).optional().describe('User at the upstream; needs password-file.'),
    'password-file': pathText()
      .optional()
      .describe('File with the password or token, relative to this file; read again when it changes.'),
    helper: z
      .string()
      .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, 'is not the name of a helper, e.g. ecr-login')
      .optional()
      .describe(
        'In place of user and password: the program docker-credential-NAME in PATH is asked, again before what it gave ends.',
      ),
    'helper-server': z
      .string()
      .min(1)
      .optional()
      .describe("What the helper is asked for; default: the upstream's host."),
    certificate: pathText()
      .optional()
      .describe(
        'PEM file of the certificate that is shown to the upstream, relative to this file; read again when it changes.',
      ),
    'key-file': pathText().optional().describe('PEM file of its key; read again with it.'),
    'proxy-username': z
      .string()
      .min(1)
      .optional()
      .describe('User at the HTTP proxy before the upstream; needs proxy-password-file.'),
    'proxy-password-file': pathText()
      .optional()
      .describe('File with its password; read again when it changes.'),
  })
  .superRefine((one, ctx) => {
    const refuse = (key: string, message: string): void =>
      ctx.addIssue({ code: 'custom', path: [key], message });
    for (const [a, b] of PAIRS) {
      if (one[a] !== undefined && one[b] === undefined) refuse(b, `is missing; ${a} needs it`);
      if (one[b] !== undefined && one[a] === undefined) refuse(a, `is missing; ${b} needs it`);
    }
    if (one.helper !== undefined && one.username !== undefined)
      refuse('helper', 'stands beside username; give one of them');
    if (one['helper-server'] !== undefined && one.helper === undefined)
      refuse('helper', 'is missing; helper-server needs it');
    if (Object.values(one).every((value) => value === undefined))
      refuse(
        'username',
        'is missing; give username and password-file, helper, certificate or proxy-username',
      );
  });
const PAIRS = [
  ['username', 'password-file'],
  ['certificate', 'key-file'],
  ['proxy-username', 'proxy-password-file'],
] as const;

const KEYS = z.strictObject({
  ...COMMON_KEYS,
  listen: hostPort().describe('Address of the signed routes.'),
  'peer-listen': z.array(hostPort()).min(1).max(16).describe('Addresses of the swarm ports.'),
  cache: CACHE_KEYS.describe('Disk used for cached blobs; pushed blobs are never evicted.'),
  scrub: SCRUB_KEYS.describe(
    'Stored blobs are read again, in turn, to find damage while other copies are right.',
  ),
  credentials: z
    .record(z.string(), CREDENTIALS)
    .default({})
    .describe('Credentials by upstream name, or by the name that a replication rule gives.'),
  'compare-every': duration({ least: '1s', most: '24d' })
    .prefault('1m')
    .describe(
      'How often records and pushed blobs are compared with each other origin, beside starts and returns.',
    ),
  records: z
    .strictObject({
      engine: z
        .enum(['embedded', 'postgres'])
        .default('embedded')
        .describe(
          '`embedded`: on the disks of their owners. `postgres`: in a PostgreSQL that all origins share; the same at every origin.',
        ),
      'url-file': pathText()
        .optional()
        .describe(
          'File with postgres://user:password@host:port/database, relative to this file; engine postgres needs it. Read again when it changes: another user or password counts at once.',
        ),
      tombstones: duration({
        least: LEAST_TOMBSTONES,
        most: '3660d',
        because: 'so far may the clocks of members be apart',
      })
        .prefault('7d')
        .describe(
          'So long records of deletes are kept at least: a member whose clock is further behind needs one more round for a write.',
        ),
    })
    .superRefine((one, ctx) => {
      const isShared = one.engine === 'postgres';
      if (isShared !== (one['url-file'] !== undefined))
        ctx.addIssue({
          code: 'custom',
          path: ['url-file'],
          message: isShared ? 'is missing; engine postgres needs it' : 'stands without engine: postgres',
        });
    })
    .prefault({})
    .describe('Where tags, links and jobs rest.'),
  'garbage-collection': z
    .strictObject({
      every: z
        .union([z.literal('never'), duration({ least: '1m', most: '366d' })], {
          error: 'is neither "never" nor a duration such as 24h',
        })
        .prefault('never')
        .describe(
          'How often pushed content that nothing refers to is collected; `never`: only by `sepia gc`.',
        ),
      grace: duration({ least: '10m', most: '366d' })
        .prefault('24h')
        .describe('What was written within this time stays, whether something refers to it or not.'),
    })
    .prefault({})
    .describe('Collecting pushed content that no tag leads to; the same at every origin.'),
  'max-uploads': z
    .number()
    .int()
    .min(1)
    .max(100_000)
    .default(1_000)
    .describe('Uploads open at once; more are answered with 429, and other origins take them.'),
  'max-uploads-per-client': z
    .number()
    .int()
    .min(1)
    .max(100_000)
    .default(250)
    .describe(
      'As max-uploads, of one account or, without one, of one client address or IPv6 /64; counted before it.',
    ),
  'max-blob': bytes({ least: '1MiB' })
    .prefault('1TiB')
    .describe('Largest blob that a push may bring; more is 413.'),
  deadlines: DEADLINES.describe('How long things may take.'),
});

/** Config file of an origin. */
export const ORIGIN_CONFIG = KEYS.superRefine((config, ctx) =>
  checkOwnAddresses(
    [
      [['listen'], config.listen],
      ...ownAddresses('peer-listen', config['peer-listen']),
      [['admin-listen'], config['admin-listen']],
    ],
    ctx,
  ),
);

export type OriginConfig = z.infer<typeof ORIGIN_CONFIG>;

/** Keys that SIGHUP puts in force. */
export const RELOADED = [
  'log.level',
  'max-uploads',
  'max-uploads-per-client',
  'max-blob',
  'deadlines.upload-idle',
] as const;

/** How patient an origin is with upstreams. */
export function paceOf({ deadlines }: OriginConfig): {
  readonly progressMs: number;
  readonly firstByteMs: number;
} {
  return { progressMs: deadlines['fetch-progress'], firstByteMs: deadlines['first-byte'] };
}

/** What it says about uploads. */
export function uploadOptions(config: OriginConfig): {
  readonly places: { readonly all: number; readonly perClient: number };
  readonly idleMs: number;
  readonly maxBlobBytes: number;
} {
  return {
    places: { all: config['max-uploads'], perClient: config['max-uploads-per-client'] },
    idleMs: config.deadlines['upload-idle'],
    maxBlobBytes: Math.min(config['max-blob'], MAX_BLOB_BYTES),
  };
}
