import { duration } from '@sepia/base/config/units';
import { patterns } from '@sepia/base/names/pattern';
import { z } from 'zod';

/** 0s: asked each time. */
const TTL = { least: '0s', most: '366d' };
/** 0s: never. */
const STALE_LIMIT = { least: '0s', most: '3660d' };
const POLICY = z.enum(['mutable', 'revalidate', 'immutable', 'pinned']);

/** `tags` of an upstream; docs are made from it. */
export const TAG_POLICIES = z.strictObject({
  policy: POLICY.optional().describe('Freshness of tags; default mutable for mode none, revalidate else.'),
  ttl: duration(TTL).prefault('60s').describe('How long a revalidated tag is believed.'),
  'stale-limit': duration(STALE_LIMIT)
    .prefault('24h')
    .describe('How old a tag may be served while the upstream does not answer.'),
  overrides: z
    .array(
      z.strictObject({
        repositories: patterns().describe('Doublestar globs of repositories, e.g. library/*, team/**.'),
        tags: patterns().optional().describe('Globs of tags; left out: all.'),
        policy: POLICY.describe('Policy of the tags that match.'),
        ttl: duration(TTL).optional().describe("Left out: the upstream's."),
        'stale-limit': duration(STALE_LIMIT).optional().describe("Left out: the upstream's."),
      }),
    )
    .max(1_000)
    .default([])
    .describe('Other policies for some repositories; the first that matches wins.'),
});

export type TagPolicies = z.infer<typeof TAG_POLICIES>;

interface Checked {
  readonly mode: string;
  readonly tags: TagPolicies;
}

/** `revalidate` asks an upstream: where there is none it cannot be meant. */
export function checkTagPolicies(upstream: Checked, ctx: z.RefinementCtx): void {
  if (upstream.mode !== 'none') return;
  const refuse = (path: (string | number)[]): void =>
    ctx.addIssue({
      code: 'custom',
      path: ['tags', ...path, 'policy'],
      message: 'revalidate needs an upstream to ask; mode none has none, use mutable',
    });
  if (upstream.tags.policy === 'revalidate') refuse([]);
  for (const [index, one] of upstream.tags.overrides.entries())
    if (one.policy === 'revalidate') refuse(['overrides', index]);
}
