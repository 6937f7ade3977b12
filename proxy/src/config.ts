import { COMMON_KEYS, LISTENER_KEYS } from '@sepia/base/config/member-keys';
import { checkOwnAddresses, endpointAddresses } from '@sepia/base/config/own-addresses';
import { baseUrl, bytes, duration, hostPort, pathText } from '@sepia/base/config/units';
import { z } from 'zod';
import { HARBOR_CONFIG } from './harbor/config.ts';

const LISTENER = z.strictObject({
  listen: hostPort().describe('Address of the registry endpoint (read and write).'),
  'default-upstream': LISTENER_KEYS['default-upstream'],
  tls: LISTENER_KEYS.tls,
  'public-url': baseUrl()
    .optional()
    .describe(
      'Where clients reach this listener, for the address of its tokens; default: the Host that they name, by http or, with tls, https. X-Forwarded headers are never looked at for it.',
    ),
  'trusted-proxies': LISTENER_KEYS['trusted-proxies'],
});

const LIMITS = z
  .strictObject({
    'open-uploads': z
      .number()
      .int()
      .min(1)
      .max(100_000)
      .default(512)
      .describe(
        'Requests with a blob or manifest in their body at once. Above it, the one that is longest slower than 16 KiB/s gives up its place, else the new one gets 429.',
      ),
    'uploads-per-account': z
      .number()
      .int()
      .min(1)
      .max(100_000)
      .default(128)
      .describe('As open-uploads, of one account; counted before it.'),
    'uploads-per-address': z
      .number()
      .int()
      .min(1)
      .max(100_000)
      .default(256)
      .describe(
        'As open-uploads, of one client address, or IPv6 /64; counted before it. Behind a balancer set trusted-proxies.',
      ),
    'requests-per-second': z
      .number()
      .int()
      .min(0)
      .max(1_000_000)
      .default(2_000)
      .describe(
        'Requests per second of one client address, or IPv6 /64: where nodes share one, raise it. More wait a little, then get 429. 0: no limit.',
      ),
    'manifest-cache': bytes({ least: '1MiB' })
      .prefault('64MiB')
      .describe('Memory for manifests by digest; at most an eighth of what this process may use.'),
    'upload-idle': duration({ least: '500ms', most: '1h' })
      .prefault('60s')
      .describe('A request body without progress for this long is cut.'),
    'body-stall': duration({ least: '1s', most: '1h' })
      .prefault('30s')
      .describe('A blob that makes no progress at any origin for this long is cut.'),
    drain: duration({ least: '0s', most: '1h' })
      .prefault('10s')
      .describe('How long requests under way may take at a stop.'),
  })
  .prefault({});

const KEYS = z.strictObject({
  ...COMMON_KEYS,
  listeners: z
    .array(LISTENER)
    .min(1)
    .max(16)
    .describe('Registry endpoints; a Docker Hub mirror is a listener of its own.'),
  limits: LIMITS.describe('What a proxy takes at once.'),
  'accounts-file': pathText()
    .optional()
    .describe(
      'htpasswd file with bcrypt hashes (htpasswd -B), the same at every proxy; needs the section accounts of the cluster document.',
    ),
  'audit-log': pathText()
    .optional()
    .describe('File for lines about pushes, deletes, logins and refusals; default: marked lines in the log.'),
  harbor: HARBOR_CONFIG.describe('Preheat drivers and webhooks of Harbor; see docs/harbor.md.'),
});

/** Config file of a proxy. */
export const PROXY_CONFIG = KEYS.superRefine((config, ctx) =>
  checkOwnAddresses(
    [...endpointAddresses(config.listeners), [['admin-listen'], config['admin-listen']]],
    ctx,
  ),
);

export type ProxyConfig = z.infer<typeof PROXY_CONFIG>;

/** Keys that SIGHUP puts in force. */
export const RELOADED = [
  'log.level',
  'limits.open-uploads',
  'limits.uploads-per-account',
  'limits.uploads-per-address',
  'limits.requests-per-second',
  'limits.drain',
] as const;
