import { CACHE_KEYS, COMMON_KEYS, LISTENER_KEYS, SCRUB_KEYS } from '@sepia/base/config/member-keys';
import { checkOwnAddresses, endpointAddresses, ownAddresses } from '@sepia/base/config/own-addresses';
import { baseUrl, duration, hostPort, pathText } from '@sepia/base/config/units';
import { isEverywhere, parseHostPort } from '@sepia/base/host-port';
import { z } from 'zod';

const BACK_TO_SOURCE = z
  .strictObject({
    mode: z
      .enum(['never', 'auto'])
      .default('auto')
      .describe('auto: ask the upstream itself when no proxy, tracker or origin answers.'),
    after: duration({ least: '100ms', most: '1h' })
      .prefault('5s')
      .describe(
        'How long nobody must have answered before a blob is fetched; starts are spread over the same time. Manifests and rights are asked for at once.',
      ),
    'max-parallel': z
      .number()
      .int()
      .min(1)
      .max(64)
      .default(2)
      .describe('Blobs fetched from upstreams at once, and as many manifests beside them.'),
  })
  .prefault({});

const DEADLINES = z
  .strictObject({
    'first-piece': duration({ least: '1s', most: '24h' })
      .prefault('15m')
      .describe(
        'Longest wait for the first verified piece of an answer; downloads without progress fail long before.',
      ),
    'download-progress': duration({ least: '1s', most: '1h' })
      .prefault('10s')
      .describe(
        'A download of which no byte was read fails when nothing of it comes, here or at the fetching origin, for this long; keep it below body-stall. Where a slow line is busy with other blobs it may take up to four body-stalls.',
      ),
    'body-stall': duration({ least: '1s', most: '1h' })
      .prefault('30s')
      .describe('An answer that has begun and makes no verified progress for this long is cut.'),
  })
  .prefault({});

const KEYS = z.strictObject({
  ...COMMON_KEYS,
  listeners: z
    .array(
      z.strictObject({
        listen: hostPort().describe('Address of the registry endpoint, on loopback.'),
        'default-upstream': LISTENER_KEYS['default-upstream'],
        tls: LISTENER_KEYS.tls,
        'public-url': baseUrl()
          .optional()
          .describe(
            'Where clients reach this listener, for the address of its tokens; default: the Host that they name, by http or, with tls, https.',
          ),
        'trusted-proxies': LISTENER_KEYS['trusted-proxies'],
      }),
    )
    .min(1)
    .describe('Registry endpoints; a Docker Hub mirror is a listener of its own.'),
  'peer-listen': z.array(hostPort()).min(1).describe('Addresses of the swarm port.'),
  advertise: z
    .array(hostPort())
    .optional()
    .describe(
      'Swarm addresses told to peers, if they differ from peer-listen; needed where that stands for all addresses of the machine (0.0.0.0, [::]).',
    ),
  cache: CACHE_KEYS.describe('Disk cache.'),
  scrub: SCRUB_KEYS.describe(
    'Stored blobs are read again, in turn, to find damage while other copies are right.',
  ),
  'back-to-source': BACK_TO_SOURCE.describe('What to do when the whole cluster is silent.'),
  deadlines: DEADLINES.describe('How long things may take.'),
  'node-secret-file': pathText()
    .optional()
    .describe(
      'File with the secret of this node (64 hex digits), which its snapshotter has too, relative to this file; left out: no image is lazy here.',
    ),
  'lazy-wait': duration({ least: '0s', most: '1m' })
    .prefault('1s')
    .describe(
      'The config of an image waits this long for the snapshotter, then it is pulled the ordinary way; one that could be taken for another image waits a minute, and is refused then.',
    ),
  'audit-log': pathText()
    .optional()
    .describe('File for lines about refusals; default: marked lines in the log.'),
});

/** Config file of an agent. */
export const AGENT_CONFIG = KEYS.superRefine((config, ctx) => {
  checkOwnAddresses(
    [
      ...endpointAddresses(config.listeners),
      ...ownAddresses('peer-listen', config['peer-listen']),
      [['admin-listen'], config['admin-listen']],
    ],
    ctx,
  );
  checkTold(config, ctx);
});

/** Peers dial what they are told: an address of all of a machine leads them to themselves, and port 0 nowhere. */
function checkTold(
  { advertise, 'peer-listen': listen }: Pick<z.infer<typeof KEYS>, 'advertise' | 'peer-listen'>,
  ctx: z.RefinementCtx,
): void {
  const isForAll = (address: string): boolean => isEverywhere(parseHostPort(address)?.host ?? '');
  const tell = (path: (string | number)[], message: string): void =>
    ctx.addIssue({ code: 'custom', path, message });
  const reached = 'name the address by which other nodes reach this one';
  for (const [index, address] of (advertise ?? []).entries())
    if (isForAll(address) || parseHostPort(address)?.port === 0)
      tell(['advertise', index], `nobody reaches ${address}; ${reached}`);
  const wide = advertise === undefined ? listen.find(isForAll) : undefined;
  if (wide !== undefined)
    tell(['advertise'], `is missing: peer-listen ${wide} is all addresses of this machine; ${reached}`);
}

export type AgentConfig = z.infer<typeof AGENT_CONFIG>;

/** Keys that SIGHUP puts in force. */
export const RELOADED = ['log.level', 'cache.budget', 'cache.high', 'cache.low'] as const;
