import { MEMBER_ID } from '@sepia/base/config/member-keys';
import { bytes, duration, pathText, registryUrl } from '@sepia/base/config/units';
import { patterns } from '@sepia/base/names/pattern';
import { isRepositoryName } from '@sepia/base/names/repository';
import { z } from 'zod';
import { REACH_KEYS } from './reach-keys.ts';

const NAME_PART = z.string().refine(isRepositoryName, {
  message: 'is not the beginning of a repository name, e.g. team or mirror/hub',
});

/** One entry of `replication`; docs are made from it. */
export const REPLICATION_RULE = z.strictObject({
  name: z
    .string()
    .regex(MEMBER_ID, 'is not a name: lower-case letters, digits, dots, dashes')
    .describe('Name of the rule.'),
  from: z.string().describe('Upstream whose repositories are copied.'),
  repositories: patterns().describe('Doublestar globs of repositories, e.g. team/**.'),
  tags: patterns().optional().describe('Globs of tags; left out: all.'),
  to: z
    .strictObject({
      url: registryUrl().describe('Another registry, or a proxy of another cluster.'),
      insecure: z.boolean().default(false).describe('Do not check its certificate.'),
      ca: pathText()
        .optional()
        .describe(
          'PEM file of certificates trusted for it, relative to this document; read again when it changes.',
        ),
      ...REACH_KEYS,
    })
    .describe('Where to.'),
  rewrite: z
    .strictObject({
      'strip-prefix': NAME_PART.optional().describe('First parts of the name that are left out there.'),
      'add-prefix': NAME_PART.optional().describe('Parts that the name begins with there.'),
    })
    .prefault({})
    .describe('Names at the target; by default the same.'),
  credentials: z
    .string()
    .regex(MEMBER_ID, 'is not a name')
    .optional()
    .describe("Name of an entry of every origin's `credentials`; left out: none are sent."),
  'max-parallel': z.number().int().min(1).max(64).default(4).describe('Blobs that one origin sends at once.'),
  rate: bytes({ least: '1KiB' })
    .optional()
    .describe('Bytes per second that one origin sends, e.g. 50MiB; left out: no limit.'),
  delete: z.boolean().default(false).describe('Take a tag away at the target when it is deleted here.'),
  referrers: z
    .strictObject({
      depth: z
        .number()
        .int()
        .min(0)
        .max(10)
        .default(3)
        .describe('Referrers of referrers up to this; 0: none.'),
      max: z.number().int().min(0).max(10_000).default(1_000).describe('Most referrers copied with one tag.'),
    })
    .prefault({})
    .describe('Signatures, SBOMs and the like that name an image as their subject.'),
  retry: z
    .strictObject({
      first: duration({ least: '10ms', orZero: true, most: '1h' })
        .prefault('2s')
        .describe('Wait after the first failure; doubled after each. 0s: none, then 1s after the second.'),
      max: duration({ least: '10ms', most: '24h' }).prefault('15m').describe('Longest wait.'),
      tries: z.number().int().min(1).max(1_000).default(20).describe('Failures after which a job is dead.'),
    })
    .prefault({})
    .describe('What happens when the target fails.'),
});

export type ReplicationRule = z.infer<typeof REPLICATION_RULE>;

interface Checked {
  readonly replication: readonly ReplicationRule[];
  readonly upstreams: readonly { readonly name: string }[];
}

/** Rules have names of their own and copy from an upstream that is there. */
export function checkReplication(document: Checked, ctx: z.RefinementCtx): void {
  const names = new Set<string>();
  for (const [index, rule] of document.replication.entries()) {
    const refuse = (key: string, message: string): void =>
      ctx.addIssue({ code: 'custom', path: ['replication', index, key], message });
    if (names.has(rule.name)) refuse('name', `"${rule.name}" is there twice`);
    names.add(rule.name);
    if (!document.upstreams.some((upstream) => upstream.name === rule.from))
      refuse('from', `"${rule.from}" is no upstream of this document`);
    if (rule.retry.first > rule.retry.max) refuse('retry', 'first is longer than max');
  }
}
