import picomatch from 'picomatch';
import { z } from 'zod';

/** Longest pattern taken: as long as the longest repository name. */
const MAX_PATTERN_CHARS = 255;
const PATTERN_CHARS = /^[\w./*?[\]{},!^-]+$/;
const OPTIONS = { dot: true, nonegate: true, noextglob: true, strictBrackets: true } as const;

/** Tells whether a repository name or tag is meant. */
export type NameMatcher = (name: string) => boolean;

/**
 * A matcher of doublestar globs: `*` within one part of the path, `**` across parts (`a/**` is `a` and all below it),
 * `?`, `[abc]`, `{x,y}`. True if any of them matches. @throws {TypeError} for a pattern that {@link patternFault} refuses
 */
export function matcherOf(patterns: readonly string[]): NameMatcher {
  for (const pattern of patterns) {
    const fault = patternFault(pattern);
    if (fault !== undefined) throw new TypeError(`pattern "${pattern}" ${fault}`);
  }
  const tests = patterns.map((pattern) => picomatch(pattern, OPTIONS));
  return (name) => tests.some((test) => test(name));
}

/** Why a text is no pattern, or undefined if it is one. */
export function patternFault(pattern: string): string | undefined {
  if (pattern === '') return 'is empty';
  if (pattern.length > MAX_PATTERN_CHARS) return `is longer than ${MAX_PATTERN_CHARS} characters`;
  if (pattern.startsWith('/') || pattern.endsWith('/') || pattern.includes('//'))
    return 'has an empty part: names neither begin nor end with a slash';
  if (pattern.startsWith('!')) return 'is negated: the first match wins, so put exceptions before the rule';
  if (!PATTERN_CHARS.test(pattern)) return 'has characters that no name has';
  if (count(pattern, '{') !== count(pattern, '}')) return 'has a brace that is not closed';
  try {
    picomatch.makeRe(pattern, { ...OPTIONS, debug: true });
    return undefined;
  } catch (error) {
    return `is not a pattern (${(error as Error).message})`;
  }
}

/** Config value: a list of patterns of which one must match. */
export function patterns(): z.ZodType<readonly string[]> {
  return z
    .array(
      z.string().superRefine((text, ctx) => {
        const fault = patternFault(text);
        if (fault !== undefined)
          ctx.addIssue({
            code: 'custom',
            message: `"${text.slice(0, 80)}" ${fault}; write e.g. library/* or team/**`,
          });
      }),
    )
    .min(1)
    .max(100) as unknown as z.ZodType<readonly string[]>;
}

function count(text: string, part: string): number {
  return text.split(part).length - 1;
}
