import { MEMBER_ID } from '@sepia/base/config/member-keys';
import { bytes } from '@sepia/base/config/units';
import { patterns } from '@sepia/base/names/pattern';
import { isRepositoryName } from '@sepia/base/names/repository';
import { COMPRESSION_LEVELS } from '@sepia/oci/compression-levels';
import { z } from 'zod';
import { BY_HAND } from './api/conversions.ts';

const PLATFORM = /^[a-z0-9]+\/[a-z0-9]+(?:\/[a-z0-9.]+)?$/;
/** Part of a tag (distribution-spec, "Pulling manifests"). */
const SUFFIX = /^[A-Za-z0-9_.-]{0,64}$/;
const REPOSITORY_MARK = '{repository}';

/** One entry of `conversions`; docs are made from it. */
export const CONVERSION_RULE = z.strictObject({
  name: z
    .string()
    .regex(MEMBER_ID, 'is not a name: lower-case letters, digits, dots, dashes')
    .describe('Name of the rule.'),
  from: z.string().describe('Upstream whose images are converted.'),
  repositories: patterns().describe('Doublestar globs of repositories, e.g. team/**.'),
  tags: patterns().optional().describe('Globs of tags; left out: all.'),
  to: z
    .enum(['estargz', 'zstdchunked', 'nydus', 'index'])
    .default('estargz')
    .describe(
      'estargz (for stargz-snapshotter), zstdchunked (for podman and CRI-O), nydus (RAFS v6, for nydus-snapshotter): what images are converted to. index: nothing is converted, their layers get an index, so that they start lazily as they are.',
    ),
  result: z
    .enum(['tag', 'image-index', 'referrer'])
    .default('tag')
    .describe(
      'tag: the result stands under a tag of its own. image-index: that tag names an index of the source and, behind it, the result. referrer: the result has no tag; it names the source as its subject.',
    ),
  repository: z
    .string()
    .default(REPOSITORY_MARK)
    .refine((text) => isRepositoryName(text.replaceAll(REPOSITORY_MARK, 'team/app')), {
      message: 'is not a repository name, with {repository} where the source stands',
    })
    .describe(
      'Repository of the result at the same registry; {repository} stands for that of the source. A referrer is always there.',
    ),
  'tag-suffix': z
    .string()
    .regex(SUFFIX, 'is not a part of a tag')
    .optional()
    .describe(
      "What the result's tag has behind that of the source; may be empty in another repository. Left out: a dash and the format.",
    ),
  platforms: z
    .array(z.string().regex(PLATFORM, 'is not like linux/amd64'))
    .min(1)
    .max(20)
    .optional()
    .describe('Platforms that are kept; left out: all.'),
  level: z
    .number()
    .int()
    .min(0)
    .max(19)
    .optional()
    .describe(
      'Level of compression: estargz 0 to 9 (left out: 6), zstdchunked and nydus 1 to 19 (left out: 3).',
    ),
  profile: z
    .boolean()
    .default(false)
    .describe(
      'Put first what a recorded start of the image, or else of its repository, read (sepia lazy profile REF --keep). Of eStargz, zstd:chunked and Nydus results.',
    ),
  'max-size': bytes({ least: '0B' })
    .optional()
    .describe('Larger images (compressed) are left alone; left out: no limit.'),
  'min-size': bytes({ least: '0B' })
    .optional()
    .describe('Smaller images (compressed) are left alone; left out: 10 MiB for index, else no limit.'),
  'delete-with-source': z
    .boolean()
    .default(false)
    .describe('Take the result away when its source is deleted.'),
  'push-index': z
    .boolean()
    .default(false)
    .describe(
      'Of index: also push the indexes of an ordinary image as its referrer, so that they outlive the cluster and another one can take them.',
    ),
});

/** An entry of `conversions` of the cluster document, defaults filled in. */
export type ConversionRule = z.infer<typeof CONVERSION_RULE>;

/** What a result's tag has behind that of its source. */
export function tagSuffix(rule: Pick<ConversionRule, 'to' | 'tag-suffix'>): string {
  return rule['tag-suffix'] ?? `-${rule.to}`;
}

interface Checked {
  readonly conversions: readonly ConversionRule[];
  readonly upstreams: readonly { readonly name: string }[];
}

/** Rules have names of their own, an upstream that is there, and a result that is not its own source. */
export function checkConversions(document: Checked, ctx: z.RefinementCtx): void {
  const names = new Set<string>();
  for (const [index, rule] of document.conversions.entries()) {
    const refuse = (key: string, message: string): void =>
      ctx.addIssue({ code: 'custom', path: ['conversions', index, key], message });
    if (names.has(rule.name)) refuse('name', `"${rule.name}" is there twice`);
    names.add(rule.name);
    if (!document.upstreams.some((upstream) => upstream.name === rule.from))
      refuse('from', `"${rule.from}" is no upstream of this document`);
    if (rule.name === BY_HAND) refuse('name', `"${BY_HAND}" is what jobs by hand are called`);
    if (rule.to === 'index') continue;
    if (rule['push-index']) refuse('push-index', `is for rules that make indexes; this one is to ${rule.to}`);
    if (rule.result === 'referrer' && rule.repository !== REPOSITORY_MARK)
      refuse('repository', 'is not that of the source; a referrer stands beside its subject');
    const { least, most } = COMPRESSION_LEVELS[rule.to];
    if (rule.level !== undefined && (rule.level < least || rule.level > most))
      refuse('level', `is not ${least} to ${most}, the levels of ${rule.to}`);
    if (rule.result !== 'referrer' && rule['tag-suffix'] === '' && rule.repository === REPOSITORY_MARK)
      refuse('tag-suffix', 'is empty, so the result would replace its source; name another repository');
  }
}

const INDEX_MIN_BYTES = 10 * 1024 * 1024;

/** Images below this many bytes are left alone. */
export function leastBytes(rule: Pick<ConversionRule, 'to' | 'min-size'>): number {
  return rule['min-size'] ?? (rule.to === 'index' ? INDEX_MIN_BYTES : 0);
}

/** Why an image of this many bytes is not for the rule; undefined if it is. */
export function sizeFault(
  rule: Pick<ConversionRule, 'to' | 'min-size' | 'max-size'>,
  sizeBytes: number,
): string | undefined {
  const least = leastBytes(rule);
  const most = rule['max-size'];
  if (sizeBytes < least) return `it has ${sizeBytes} bytes; the rule begins at ${least}`;
  return most !== undefined && sizeBytes > most
    ? `it has ${sizeBytes} bytes; the rule takes up to ${most}`
    : undefined;
}

/** Repository of the result for one of the source. */
export function resultRepository(rule: Pick<ConversionRule, 'repository'>, repository: string): string {
  return rule.repository.replaceAll(REPOSITORY_MARK, repository);
}

/** The repository that a result of this rule was made from; undefined where the rule gives several one place. */
export function sourceRepository(
  rule: Pick<ConversionRule, 'repository'>,
  result: string,
): string | undefined {
  const [before = '', after, more] = rule.repository.split(REPOSITORY_MARK);
  if (after === undefined || more !== undefined) return undefined;
  const isMade = result.length > before.length + after.length;
  return isMade && result.startsWith(before) && result.endsWith(after)
    ? result.slice(before.length, result.length - after.length)
    : undefined;
}
