import { bytes, duration } from '@sepia/base/config/units';
import { z } from 'zod';

/** `write-back` of an upstream; docs are made from it. */
export const WRITE_BACK = z.strictObject({
  'on-conflict': z
    .enum(['ours', 'theirs', 'stop'])
    .default('ours')
    .describe(
      'When a tag was changed at the registry while a push of it waited. ours: the push wins. theirs: the registry wins. stop: nothing is changed until an operator says which (sepia write-back retry --take).',
    ),
  deletes: z
    .boolean()
    .default(true)
    .describe('Take tags and manifests away at the registry when they are deleted here; false: no deletes.'),
  'max-parallel': z.number().int().min(1).max(64).default(4).describe('Blobs that one origin sends at once.'),
  rate: bytes({ least: '1KiB' })
    .optional()
    .describe('Bytes per second that one origin sends, e.g. 50MiB; left out: no limit.'),
  retry: z
    .strictObject({
      first: duration({ least: '10ms', orZero: true, most: '1h' })
        .prefault('2s')
        .describe('Wait after the first failure; doubled after each. 0s: none, then 1s after the second.'),
      max: duration({ least: '10ms', most: '24h' }).prefault('1m').describe('Longest wait.'),
      tries: z
        .number()
        .int()
        .min(1)
        .max(1_000)
        .default(20)
        .describe('Refusals after which a job is dead; silence of the registry never counts.'),
    })
    .prefault({})
    .describe('What happens when the registry fails.'),
  'moved-from': z
    .url({ protocol: /^https?$/ })
    .optional()
    .describe(
      'The url of before, where url names the same registry anew, or one that has all that it had: pushes that wait go there. Without it another url is refused while pushes wait.',
    ),
  'warn-after': duration({ least: '0s', most: '366d' })
    .prefault('15m')
    .describe('How old the oldest waiting push may be before /readyz warns. 0s: as soon as one waits.'),
});

/** How pushes to an upstream of mode `write-back` get there. */
export type WriteBack = z.infer<typeof WRITE_BACK>;

/** What a config may say for `mode` of an upstream; see {@link UpstreamMode}. */
export const UPSTREAM_MODES = ['none', 'pull-through', 'write-back'] as const;

/** How an upstream is used: nothing is behind it, it is read from, or pushes reach it, too. */
export type UpstreamMode = (typeof UPSTREAM_MODES)[number];

/** True for the modes whose upstreams take pushes; deletes too, unless `write-back.deletes` says no. */
export function takesPushes(mode: UpstreamMode): boolean {
  return mode !== 'pull-through';
}

/** `write-back` of an upstream with its defaults; undefined in the other modes. */
export function writeBackOf(upstream: {
  readonly mode: UpstreamMode;
  readonly 'write-back'?: WriteBack | undefined;
}): WriteBack | undefined {
  if (upstream.mode !== 'write-back') return undefined;
  return upstream['write-back'] ?? WRITE_BACK.parse({});
}

interface Checked {
  readonly mode: UpstreamMode;
  readonly access?: string | undefined;
  readonly 'write-back'?: WriteBack | undefined;
}

/** Keys that are only meant in mode write-back, and what it cannot be combined with. */
export function checkWriteBack(upstream: Checked, ctx: z.RefinementCtx): void {
  const refuse = (path: string[], message: string): void => ctx.addIssue({ code: 'custom', path, message });
  const own = upstream['write-back'];
  if (own !== undefined && upstream.mode !== 'write-back')
    refuse(['write-back'], `is for mode write-back; this upstream has mode ${upstream.mode}`);
  if (own !== undefined && own.retry.first > own.retry.max)
    refuse(['write-back', 'retry'], 'first is longer than max');
  if (upstream.mode === 'write-back' && upstream.access === 'upstream')
    refuse(
      ['access'],
      'in mode write-back the origins push with their own credentials, so the upstream cannot say who may; use accounts or cluster',
    );
}
